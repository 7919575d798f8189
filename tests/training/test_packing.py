"""Packed weights and averages: how much is lost, and that nothing more is lost the second time."""

from __future__ import annotations

import pytest
import torch

from sdic.training import packing


def kernel(seed: int, scale: float = 1.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return scale * torch.randn(6, 5, 3, 3, generator=random)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_weights_keep_24_bits_and_the_running_ones_are_rounded_alike(
    layout: torch.memory_format,
) -> None:
    weight = kernel(0).contiguous(memory_format=layout)
    before = weight.clone()
    packed = packing.pack_weight(weight)
    assert (packed.dtype, packed.shape) == (torch.uint8, (6, 5, 3, 3, 3))
    assert torch.equal(packing.unpack_weight(packed), weight)
    assert ((weight - before).abs() <= before.abs() * 2**-16).all()
    assert not torch.equal(weight, before)
    assert torch.equal(packing.pack_weight(weight), packed)


def test_averages_are_kept_as_their_difference_in_8_bits() -> None:
    weight = kernel(0)
    average = weight + kernel(1, 1e-3)
    before = average.clone()
    packed, scale = packing.pack_difference(average, weight)
    assert packed.element_size() == 1
    assert scale.shape == (6, 1, 1, 1)
    assert torch.equal(packing.unpack_difference(packed, scale, weight), average)
    assert (average - before).abs().max() < 0.04 * (before - weight).abs().max()


def test_an_average_that_equals_its_weight_stays_so() -> None:
    weight = kernel(0)
    average = weight.clone()
    packing.pack_difference(average, weight)
    assert torch.equal(average, weight)


def test_all_packed_tensors_come_back_under_their_names() -> None:
    weight, average, bias = kernel(0), kernel(1), torch.randn(6)
    packed = packing.pack_weight(weight)
    difference, scale = packing.pack_difference(average, weight)
    plain = packing.unpack(
        {
            f"{packing.DIFFERENCE}ema.net.weight": difference,
            f"{packing.SCALE}ema.net.weight": scale,
            f"{packing.WEIGHT}networks.net.weight": packed,
            "networks.net.bias": bias,
        }
    )
    assert plain.keys() == {"networks.net.weight", "ema.net.weight", "networks.net.bias"}
    assert torch.equal(plain["networks.net.weight"], weight)
    assert torch.equal(plain["ema.net.weight"], average)
    assert plain["networks.net.bias"] is bias


def test_vectors_and_other_types_are_left_alone() -> None:
    assert packing.is_packable(torch.zeros(2, 2))
    assert not packing.is_packable(torch.zeros(2))
    assert not packing.is_packable(torch.zeros(2, 2, dtype=torch.int64))
