"""The e4e encoder and the parts it is built of."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as nnf

from rounding import close
from sdic.encoders import IRSE50, Bottleneck, E4EEncoder, LatentDiscriminator
from sdic.encoders.layers import (
    ConvNorm,
    EqualizedConv2d,
    EqualizedLinear,
    NearestUpConv,
    ScaledLeakyReLU,
)
from sdic.errors import InputError, WeightsError
from sdic.weights.checkpoints import load_strict

STAGES = ((16, 1), (18, 2), (20, 1), (22, 1))


def small_encoder(num_styles: int) -> E4EEncoder:
    """All heads of a level share one module, so that the test is small and quick."""
    torch.manual_seed(0)
    with torch.device("meta"):
        encoder = E4EEncoder(num_styles, stages=((16, 1),) * 4)
    for i, side in ((0, 16), (3, 32), (7, 64)):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 512))
        last = {16: 3, 32: 7, 64: num_styles}[side]
        for row in range(i, last):
            encoder.styles[row] = head
    encoder.trunk = IRSE50(((16, 1),) * 4)
    encoder.lateral1, encoder.lateral2 = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
    encoder.mean_latent = torch.randn(num_styles, 512)
    return encoder.eval()


@pytest.mark.parametrize("num_styles", [16, 18, 23])
@torch.no_grad()
def test_code_is_w_plus_offsets_plus_mean(num_styles):
    encoder = small_encoder(num_styles)
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    latents = encoder(images)
    w, offsets = encoder.codes(images)
    assert latents.shape == (2, num_styles, 512)
    assert offsets.shape == (2, num_styles - 1, 512)
    close(latents[:, 0], w + encoder.mean_latent[0])
    expected = w[:, None] + offsets + encoder.mean_latent[1:]
    close(latents[:, 1:], expected)


@torch.no_grad()
def test_stage_unlocks_offsets_one_by_one():
    encoder = small_encoder(18)
    images = torch.rand(1, 3, 256, 256)
    _, all_offsets = encoder.codes(images)
    for stage in (0, 2, 3, 9, 17):
        encoder.set_stage(stage)
        _, offsets = encoder.codes(images)
        torch.testing.assert_close(offsets[:, :stage], all_offsets[:, :stage])
        assert not offsets[:, stage:].any()


def test_unknown_stage_is_refused():
    encoder = small_encoder(18)
    with pytest.raises(InputError, match="stages 0 to 17"):
        encoder.set_stage(18)
    for stage in (torch.tensor(18), torch.tensor(-1), torch.tensor(1.5), torch.zeros(2).int()):
        with pytest.raises(InputError, match="stages 0 to 17"):
            encoder.load_state_dict({**encoder.state_dict(), "stage": stage})


def test_the_stage_is_kept_where_rows_are_locked():
    encoder, other = small_encoder(18), small_encoder(18)
    published = encoder.state_dict()
    assert "stage" not in published
    encoder.set_stage(5)
    assert encoder.state_dict().keys() - published.keys() == {"stage"}
    load_strict(other, encoder.state_dict(), "a run stopped early")
    assert other.stage == 5
    load_strict(other, published, "a published file")
    assert other.stage == 17
    with pytest.raises(WeightsError, match="1 surplus: steps"):
        load_strict(other, published | {"steps": torch.tensor(3)}, "another file")


def test_trunk_sides_and_channels():
    maps = IRSE50(STAGES)(torch.rand(2, 3, 64, 64))
    assert [tuple(x.shape) for x in maps] == [(2, 18, 16, 16), (2, 20, 8, 8), (2, 22, 4, 4)]


def test_trunk_has_the_blocks_of_irse50():
    with torch.device("meta"):
        trunk = IRSE50()
    assert len(trunk.body) == 24
    assert trunk.taps == (6, 20, 23)


def test_bottleneck_without_residual_is_its_shortcut():
    block = Bottleneck(16, 16, stride=2).eval()
    nn.init.zeros_(block.res_layer[3].weight)
    x = torch.rand(1, 16, 8, 8)
    torch.testing.assert_close(block(x), nnf.max_pool2d(x, 1, 2))


def test_equalised_layers_scale_by_the_fan_in():
    x = torch.rand(3, 8)
    linear = EqualizedLinear(8, 5)
    close(linear(x), x @ linear.weight.T / math.sqrt(8) + linear.bias)
    conv = EqualizedConv2d(2, 3, 3, padding=1)
    maps = torch.rand(1, 2, 6, 6)
    expected = nnf.conv2d(maps, conv.weight / math.sqrt(18), conv.bias, padding=1)
    close(conv(maps), expected)


def test_scaled_leaky_relu():
    x = torch.tensor([-1.0, 2.0])
    expected = torch.tensor([-0.2, 2.0]) * math.sqrt(2)
    torch.testing.assert_close(ScaledLeakyReLU()(x), expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_conv_norm_keeps_the_size(kernel):
    assert ConvNorm(2, 3, kernel)(torch.rand(2, 2, 7, 9)).shape == (2, 3, 7, 9)


def test_nearest_up_conv_doubles_the_size():
    assert NearestUpConv(2, 3)(torch.rand(2, 2, 5, 6)).shape == (2, 3, 10, 12)


def test_latent_discriminator():
    network = LatentDiscriminator()
    assert network(torch.randn(2, 18, 512)).shape == (2, 18, 1)
    assert sum(isinstance(layer, nn.Linear) for layer in network) == 4
