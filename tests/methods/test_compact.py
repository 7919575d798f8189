"""The compact encoder, DIPN and DICN: shapes, and where they start."""

import pytest
import torch
from torch.nn import functional as nnf

from rounding import close
from sdic.encoders.compact import CompactEncoder
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN, Residual

STYLES = 5


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return CompactEncoder(STYLES, torch.linspace(-1, 1, 512)).eval()


@torch.no_grad()
def test_encoder_starts_at_the_mean_latent(encoder, images):
    latents = encoder(images)
    assert latents.shape == (2, STYLES, 512)
    assert torch.equal(latents, encoder.mean_latent.expand(2, STYLES, -1))
    without = CompactEncoder(STYLES).eval()
    assert torch.equal(without(images[:1]), torch.zeros(1, STYLES, 512))


@torch.no_grad()
def test_latents_are_the_base_plus_deltas_and_depend_on_the_image(images):
    torch.manual_seed(1)
    encoder = CompactEncoder(STYLES).eval()
    torch.nn.init.normal_(encoder.to_w.weight)
    torch.nn.init.normal_(encoder.to_deltas.weight)
    w, deltas = encoder.base_and_deltas(images)
    assert (w.shape, deltas.shape) == ((2, 512), (2, STYLES, 512))
    latents = encoder(images)
    assert torch.equal(latents, w[:, None] + deltas)
    assert (latents[0] - latents[1]).abs().max() > 1e-3
    assert (latents[0, 0] - latents[0, 1]).abs().max() > 1e-3
    close(encoder(images[1:]), latents[1:])


def test_both_heads_can_leave_their_start(images):
    encoder = CompactEncoder(STYLES)
    encoder(images[:1]).square().sum().backward()
    assert encoder.to_deltas.bias.grad is not None
    target = torch.ones(1, STYLES, 512)
    encoder.zero_grad()
    nnf.mse_loss(encoder(images[:1]), target).backward()
    for layer in (encoder.to_w, encoder.to_deltas):
        assert layer.weight.grad.abs().max() > 0


def test_batch_norms_of_the_trunk_stay_as_they_are_in_training():
    encoder = CompactEncoder(STYLES).train()
    assert encoder.training
    assert encoder.to_w.training
    assert not any(module.training for module in encoder.trunk.modules())


def test_a_residual_starts_as_the_identity():
    x = torch.randn(2, 6, 5, 7)
    assert torch.equal(Residual(6)(x), x)


@torch.no_grad()
def test_dipn_puts_a_cell_of_pixels_at_each_position(images):
    torch.manual_seed(2)
    dipn = CompactDIPN(channels=6, blocks=1, cell=4)
    reconstruction = images.flip(0)
    discrepancy = dipn(images, reconstruction)
    assert discrepancy.shape == (2, 6, 64, 64)
    # A pixel reaches its own cell and the neighbours of a 3x3; residuals start as the identity.
    moved = images.clone()
    moved[:, :, 101, 42] += 1
    changed = ((dipn(moved, reconstruction) - discrepancy).abs() > 1e-4).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [24, 9]
    assert changed.max(0).values.tolist() == [26, 11]


@torch.no_grad()
def test_dipn_sees_the_reconstruction(images):
    torch.manual_seed(2)
    dipn = CompactDIPN(channels=6, blocks=1)
    assert (dipn(images, images) - dipn(images, images.flip(0))).abs().max() > 1e-3


@pytest.fixture
def inputs():
    random = torch.Generator().manual_seed(3)
    shapes = ((2, 6, 8, 8), (2, 16, 8, 8), (2, STYLES, 512))
    return tuple(torch.randn(shape, generator=random) for shape in shapes)


@pytest.fixture
def dicn():
    torch.manual_seed(4)
    return CompactDICN(STYLES, 16, channels=6, blocks=1, fine_channels=4, fine_blocks=1)


@torch.no_grad()
def test_dicn_keeps_the_latents_at_its_start(dicn, inputs):
    discrepancy, features, latents = inputs
    enhanced, enhanced_latents = dicn(discrepancy, features, latents)
    assert enhanced.shape == features.shape
    assert torch.equal(enhanced_latents, latents + 0)


@torch.no_grad()
def test_dicn_adds_to_the_features_what_its_last_layer_gives(dicn, inputs):
    discrepancy, features, latents = inputs
    bands = []
    dicn.to_bands.register_forward_hook(lambda *call: bands.append(call[2]))
    change = dicn(discrepancy, features, latents)[0] - features
    # Styles do not scale it yet, and the Haar transform on the way keeps its energy.
    assert change.square().sum() == pytest.approx(float(bands[0].square().sum()), rel=1e-4)
    close(dicn(discrepancy, features, -latents)[0] - features, change)
    dicn.to_bands.weight.zero_()
    dicn.to_bands.bias.zero_()
    assert torch.equal(dicn(discrepancy, features, latents)[0], features)


@torch.no_grad()
def test_styles_scale_the_compensation_of_each_channel(dicn, inputs):
    discrepancy, features, latents = inputs
    change = dicn(discrepancy, features, latents)[0] - features
    dicn.style_scale.bias[3] = 1.5
    scaled = dicn(discrepancy, features, latents)[0] - features
    expected = change.clone()
    expected[:, 3] *= 2.5
    close(scaled, expected)


@torch.no_grad()
def test_latents_are_compensated_by_a_scale_and_an_offset(dicn, inputs):
    discrepancy, features, latents = inputs
    gamma, theta = torch.randn(2, STYLES, 512)
    dicn.to_affine[-1].bias.copy_(torch.stack((gamma, theta)).flatten())
    enhanced = dicn(discrepancy, features, latents)[1]
    close(enhanced, (1 + gamma) * latents + theta)


def test_gradients_reach_every_parameter_after_one_step(dicn, inputs):
    def backward():
        enhanced, latents = dicn(*inputs)
        (enhanced.square().mean() + (latents - 1).square().mean()).backward()

    optimiser = torch.optim.Adam(dicn.parameters(), 1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        backward()
        optimiser.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in dicn.parameters())
