"""Batch norms folded into convolutions."""

import pytest
import torch
from torch import nn

from rounding import close
from sdic.encoders.irse import Bottleneck
from sdic.encoders.layers import ConvNorm
from sdic.runtime.folding import channels_last, fold_batch_norm


def randomise(module: nn.Module) -> nn.Module:
    """Give batch norms statistics that matter."""
    torch.manual_seed(0)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand_like(tensor) + 0.5 if "var" in key else torch.randn_like(tensor)
            )
    return module.eval()


CASES = {
    "conv2d": (lambda: ConvNorm(3, 5), (2, 3, 8, 8)),
    "transposed2d": (lambda: ConvNorm(3, 5, 4, 2, 1, transposed=True), (2, 3, 8, 8)),
    "conv3d": (lambda: ConvNorm(3, 5, dims=3), (2, 3, 4, 8, 8)),
    "transposed3d": (lambda: ConvNorm(3, 5, 4, 2, 1, dims=3, transposed=True), (2, 3, 4, 8, 8)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5)), (2, 3, 16)),
    "bottleneck": (lambda: Bottleneck(16, 32, 2), (2, 16, 8, 8)),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_folding_changes_the_modules_and_not_the_result(case):
    build, shape = CASES[case]
    module = randomise(build())
    x = torch.randn(shape)
    before = module(x)
    norms = count_norms(module)
    folded = fold_batch_norm(module)
    assert folded is module
    assert count_norms(module) == norms - (2 if case == "bottleneck" else 1)
    close(module(x), before)


def test_norm_before_a_padded_convolution_stays():
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1))
    assert count_norms(fold_batch_norm(module)) == 1


def test_channels_last_changes_the_layout_and_not_the_numbers():
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Unflatten(1, (6, 2, 3, 3)))
    module.append(nn.Conv3d(6, 2, 1))
    x = torch.rand(1, 4, 5, 8)
    before = module(x)
    channels_last(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    close(module(x), before)


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
