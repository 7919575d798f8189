"""The same numbers with fewer passes: folded batch norms, and weights laid out for the CPU."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every batch norm that follows a convolution in a `Sequential` into that convolution.

    The module is changed in place and left in eval mode; it computes the same up to rounding, and
    can no longer be trained or loaded from a checkpoint. A batch norm before a convolution stays:
    zero padding comes between the two.

    Returns:
        The module itself.
    """
    module.eval()
    for sequence in module.modules():
        if isinstance(sequence, nn.Sequential):
            _fold_sequence(sequence)
    return module


def channels_last(module: nn.Module) -> nn.Module:
    """Store the weights of 2-D convolutions with channels last, in place; returns the module.

    Convolutions with such weights give maps of the same layout, which a CPU works on a little
    faster. `Module.to` cannot do this for a module that has 3-D convolutions too.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _fold_sequence(sequence: nn.Sequential) -> None:
    names = list(sequence._modules)
    for first, second in pairwise(names):
        conv, norm = sequence._modules[first], sequence._modules[second]
        if not isinstance(norm, _NORMS) or not isinstance(conv, _CONVOLUTIONS + _TRANSPOSED):
            continue
        if type(conv).__module__ != "torch.nn.modules.conv":
            continue  # a subclass may scale its weight at run time
        transposed = isinstance(conv, _TRANSPOSED)
        sequence._modules[first] = fuse_conv_bn_eval(conv, norm, transposed)
        sequence._modules[second] = nn.Identity()
