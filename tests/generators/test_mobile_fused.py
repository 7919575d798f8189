"""The mobile generator with merged convolutions: the same images."""

import copy

import pytest
import torch

from rounding import close
from sdic.generators.mobile import Block
from sdic.generators.mobile_fused import FusedBlock, fuse, to_bfloat16
from tiny import tiny_generator


@pytest.fixture(scope="module")
def network():
    return tiny_generator(deep=True)


@pytest.fixture(scope="module")
def w_plus(network):
    return network.sample(2 * network.num_styles, seed=5).unflatten(0, (2, network.num_styles))


def test_fused_equals_the_original(network, w_plus):
    fused = fuse(copy.deepcopy(network))
    assert all(isinstance(block, FusedBlock) for block in fused.blocks)
    assert all(isinstance(block, Block) for block in network.blocks)
    close(fused.to_features(w_plus), network.to_features(w_plus))
    for size in (None, 64):
        close(fused(w_plus, size), network(w_plus, size))


def test_fusing_twice_changes_nothing_more(network, w_plus):
    fused = fuse(copy.deepcopy(network))
    once = fused(w_plus, 64)
    assert torch.equal(fuse(fused)(w_plus, 64), once)


def test_gradients_still_reach_the_latents(network, w_plus):
    latents = w_plus.clone().requires_grad_()
    plain = w_plus.clone().requires_grad_()
    fuse(copy.deepcopy(network))(latents, 64).square().mean().backward()
    network(plain, 64).square().mean().backward()
    close(latents.grad, plain.grad)


@pytest.mark.parametrize("merged", [False, True])
def test_bfloat16_is_close(network, w_plus, merged):
    half = to_bfloat16(fuse(copy.deepcopy(network)) if merged else copy.deepcopy(network))
    image = half(w_plus)
    assert image.dtype == torch.bfloat16
    expected = network(w_plus)
    error = (image.float() - expected).abs()
    # bfloat16 has 8 bits: a relative 0.004 for each of some ten layers.
    assert error.mean() < 0.02 * expected.std()
    z = torch.randn(2, 512)
    assert torch.equal(half.mapping(z), network.mapping(z))
