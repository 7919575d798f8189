"""Every generator by every property of the contract."""

import copy

import pytest
import torch
from torch.nn import functional as nnf

from rounding import close
from sdic import generators
from sdic.errors import InputError
from sdic.generators.mobile import Modulation
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.generators.stylegan2_layers import EqualLinear
from tiny import TINY


@pytest.fixture(scope="module", params=generators.names())
def network(request):
    """Each registered generator, small; one that is not in TINY fails here."""
    network = TINY[request.param]()
    assert network.name == request.param
    return network


@pytest.fixture(scope="module")
def w_plus(network):
    w = network.sample(2 * network.num_styles, seed=5)
    return w.unflatten(0, (2, network.num_styles))


def test_shapes(network, w_plus):
    side = network.resolution
    assert network.mapping(torch.randn(3, 512)).shape == (3, 512)
    assert network.mean_latent.shape == (512,)
    assert network.to_features(w_plus).shape == (2, *network.feature_shape)
    assert network(w_plus).shape == (2, 3, side, side)
    assert network.broadcast(w_plus[:, 0]).shape == w_plus.shape


def test_two_halves_are_one_pass(network, w_plus):
    halves = network.from_features(network.to_features(w_plus), w_plus)
    assert torch.equal(halves, network(w_plus))


def test_small_images_are_area_averages(network, w_plus):
    whole = network(w_plus)
    features = network.to_features(w_plus)
    for factor in (2, 4, 8):
        small = network.from_features(features, w_plus, network.resolution // factor)
        close(small, nnf.avg_pool2d(whole, factor))


def test_sizes_that_do_not_divide_are_refused(network, w_plus):
    for size in (0, -1, 100, 2 * network.resolution):
        with pytest.raises(InputError, match=f"Image size {size}"):
            network(w_plus, size)


def test_rows_act_on_their_side_of_the_split(network, w_plus):
    features = network.to_features(w_plus)
    late = w_plus.clone()
    late[:, -3:] += 1
    assert torch.equal(network.to_features(late), features)
    assert (network.from_features(features, late) - network(w_plus)).abs().max() > 1e-4
    early = w_plus.clone()
    early[:, 0] += 1
    assert (network.to_features(early) - features).abs().max() > 1e-4


def test_features_reach_the_image(network, w_plus):
    features = network.to_features(w_plus)
    assert (network.from_features(features + 0.1, w_plus) - network(w_plus)).abs().max() > 1e-4


def test_styles_are_the_scales_of_all_modulated_channels(network, w_plus):
    made = []
    hooks = [
        module.register_forward_hook(lambda *call: made.append(call[2].flatten(1)))
        for module in network.modules()
        if isinstance(module, Modulation) or type(module) is EqualLinear
    ]
    styles = network.styles(w_plus)
    assert torch.equal(styles, torch.cat(made, dim=1))
    made.clear()
    network(w_plus)
    close(torch.cat(made, dim=1).sort()[0], styles.sort()[0])
    for hook in hooks:
        hook.remove()


def test_styles_depend_on_the_rows_that_the_image_depends_on(network, w_plus):
    acting = []
    for make in (network.styles, network):
        latents = w_plus.clone().requires_grad_()
        make(latents).square().sum().backward()
        acting.append(latents.grad.abs().amax(dim=(0, 2)) > 0)
    assert torch.equal(*acting)
    assert acting[0][0]


def test_styles_of_a_fused_generator_are_the_same(w_plus):
    plain = TINY["mobile"]()
    latents = plain.broadcast(w_plus[:, 0])
    styles = plain.styles(latents)
    fused = fuse(copy.deepcopy(plain))
    close(fused.styles(latents), styles)
    half = to_bfloat16(fused).styles(latents).float()
    close(half, styles, 0.02)


def test_samples_in_a_batch_do_not_mix(network, w_plus):
    close(network(w_plus)[1:], network(w_plus[1:]))


def test_is_frozen_and_in_eval_mode(network):
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_gradients_reach_latents_and_features(network, w_plus):
    latents = w_plus.clone().requires_grad_()
    features = network.to_features(latents)
    features.retain_grad()
    network.from_features(features, latents).square().mean().backward()
    assert features.grad.abs().max() > 0
    assert latents.grad[:, 0].abs().max() > 0
    assert latents.grad.isfinite().all()


def test_a_sample_depends_on_the_seed_and_its_number_only(network):
    four = network.sample(4, seed=11)
    close(four[:2], network.sample(2, seed=11))
    assert (four[0] - network.sample(1, seed=12)[0]).abs().max() > 1e-3
    assert (four[0] - four[1]).abs().max() > 1e-3
    assert network.sample(0, seed=11).shape == (0, 512)


def test_sampling_leaves_the_global_random_state_alone(network):
    state = torch.random.get_rng_state()
    network.sample(2, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_truncation_interpolates_to_the_mean(network):
    full, half, none = (network.sample(3, seed=2, truncation=t) for t in (1, 0.5, 0))
    mean = network.mean_latent
    assert torch.allclose(none, mean.expand(3, -1), atol=1e-6)
    assert torch.allclose(half, (full + mean) / 2, atol=1e-6)


def test_mean_latent_is_the_mean_of_the_mapping(network):
    z = torch.randn(4000, 512, generator=torch.Generator().manual_seed(77))
    w = network.mapping(z)
    error = (network.mean_latent - w.mean(0)) / w.std(0)
    # Both are means of a few hundred or thousand draws: about 0.05 to 0.1 standard deviations off.
    assert error.square().mean().sqrt() < 0.15


def test_state_dict_goes_round(network, w_plus):
    other = TINY[network.name]()
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.to_features(w_plus), network.to_features(w_plus))
