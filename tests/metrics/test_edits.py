"""Measures of edits, in closed form or with a fault that was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic import images, metrics
from sdic.errors import InputError
from sdic.metrics import at_equal_change

SIDE = 128
GREY = torch.zeros(1, 3, SIDE, SIDE)
ALL = torch.ones(1, 1, SIDE, SIDE)


def colours(*values: float) -> Tensor:
    """One image [N,3,SIDE,SIDE] for each grey level in [-1,1]."""
    return (
        torch.tensor(values, dtype=torch.float32)[:, None, None, None]
        .expand(-1, 3, SIDE, SIDE)
        .clone()
    )


def left_half() -> Tensor:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    return mask


def noise(seed: int, smooth: int) -> Tensor:
    """Coloured texture [1,3,SIDE,SIDE] of standard deviation 1."""
    random = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    padded = nnf.pad(random, (smooth,) * 4, mode="reflect")
    texture = nnf.avg_pool2d(padded, 2 * smooth + 1, 1)
    return texture / texture.std()


def head(x: float) -> Tensor:
    """A matte [1,1,SIDE,SIDE] with a soft border, of a disc in the middle row."""
    place = torch.arange(SIDE) + 0.5
    distance = ((place[None] - x) ** 2 + (place[:, None] - SIDE / 2) ** 2).sqrt()
    return torch.sigmoid(SIDE / 4 - distance)[None, None]


# Colour


def test_colour_difference_in_closed_form() -> None:
    skimage = pytest.importorskip("skimage.color")
    photos, edits = colours(-1, 0, 0.3), colours(1, 0, 0.5)
    found = metrics.colour_difference(photos, edits, ALL.expand(3, -1, -1, -1))
    pair = (skimage.rgb2lab(np.full(3, (v + 1) / 2)) for v in (0.3, 0.5))
    expected = [100, 0, float(skimage.deltaE_ciede2000(*pair))]  # black and white are 100 apart
    assert found.tolist() == pytest.approx(expected, abs=1e-3)


def test_colour_differences_are_weighed_by_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage.color")
    monkeypatch.setattr("sdic.metrics.edits._CHUNK", 1000)
    edits = torch.where(left_half() > 0, 1.0, -1.0).expand(1, 3, -1, -1)
    black = colours(-1)
    assert metrics.colour_difference(black, edits, ALL).item() == pytest.approx(50, abs=0.01)
    assert metrics.colour_difference(black, edits, 1 - left_half()).item() == 0
    weights = 0.25 + 0.5 * left_half()
    assert metrics.colour_difference(black, edits, weights).item() == pytest.approx(75, abs=0.01)
    assert metrics.colour_difference(black, edits, 0 * ALL).isnan().all()


def test_the_colour_of_a_region_that_moved() -> None:
    pytest.importorskip("skimage.color")
    mask, moved = left_half(), left_half().flip(3)
    photo = 0.8 * mask * torch.tensor([1.0, -0.5, 0.2])[None, :, None, None] + 0.05 * noise(1, 1)
    edit = photo.flip(3)
    same = metrics.mean_colour_difference(photo, edit, mask, moved)
    assert same.item() == pytest.approx(0, abs=1e-4)
    assert metrics.colour_difference(photo, edit, ALL).item() > 10
    assert metrics.mean_colour_difference(photo, edit, mask, mask).item() > 10
    assert metrics.mean_colour_difference(photo, edit, mask, 0 * mask).isnan().all()


# Background


def test_one_level_in_one_channel_of_the_background_is_seen() -> None:
    rgb = np.random.default_rng(0).integers(5, 250, (SIDE, SIDE, 3), dtype=np.uint8)
    edited = rgb.copy()
    edited[:, : SIDE // 2] += 5  # under the mask
    photo, mask = images.to_tensor(rgb), left_half()
    equal = metrics.background_change(photo, images.to_tensor(edited), mask)
    assert (equal.equal.item(), equal.largest.item()) == (1, 0)
    edited[0, -1, 2] += 1
    edited[1, -1, 0] -= 3
    change = metrics.background_change(photo, images.to_tensor(edited), mask)
    assert change.equal.item() == pytest.approx(1 - 2 / (SIDE * SIDE / 2))
    assert change.largest.item() == pytest.approx(3, abs=1e-3)
    soft = metrics.background_change(photo, images.to_tensor(edited), 0.1 + 0.9 * mask, 0.1)
    assert torch.equal(soft.largest, change.largest)
    nowhere = metrics.background_change(photo, images.to_tensor(edited), ALL)
    assert nowhere.equal.isnan().all()
    assert nowhere.largest.isnan().all()


# Ghost


def scene(texture: float, shift: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A photo, the same with its head moved and no ghost, and both mattes."""
    background = torch.tensor([0.3, 0.4, 0.5])[None, :, None, None]
    hair = torch.tensor([-0.6, -0.7, -0.5])[None, :, None, None]
    before, after = head(SIDE / 2), head(SIDE / 2 + shift)
    behind, skin, plate = (texture * noise(seed, 1) for seed in (1, 2, 3))
    photo = before * (hair + skin) + (1 - before) * (background + behind)
    shown = torch.where(before > 0.02, plate, behind)  # what the head had hidden is painted anew
    clean = after * (hair + skin.roll(round(shift), 3)) + (1 - after) * (background + shown)
    return photo, clean, before, after


@pytest.mark.parametrize("shift", [6, 12, 25])
@pytest.mark.parametrize(("texture", "tolerance"), [(0.0, 0.03), (0.15, 0.08)])
def test_a_translucent_copy_is_measured_by_its_opacity(
    shift: float, texture: float, tolerance: float
) -> None:
    photo, clean, before, after = scene(texture, shift)
    for opacity in (0.0, 0.2, 0.5, 1.0):
        edit = opacity * photo + (1 - opacity) * clean
        found = metrics.ghost(photo, edit, before, after).item()
        assert found == pytest.approx(opacity, abs=tolerance)


def test_a_ghost_is_the_same_at_any_resolution() -> None:
    photo, clean, before, after = scene(0.0, 12)
    pictures = (photo, 0.4 * photo + 0.6 * clean, before, after)
    large = (nnf.interpolate(each, scale_factor=5, mode="bilinear") for each in pictures)
    found = metrics.ghost(*large).item()
    assert found == pytest.approx(metrics.ghost(*pictures).item(), abs=0.01)


def test_a_copy_behind_the_head_counts_where_the_head_does_not_cover_it() -> None:
    photo, clean, before, after = scene(0.0, 12)
    behind = torch.where(after > 0.5, clean, 0.5 * (photo + clean))
    assert 0.1 < metrics.ghost(photo, behind, before, after).item() < 0.4
    negative = (1 - after) * (clean - 0.3 * (photo - clean)) + after * clean
    assert metrics.ghost(photo, negative, before, after).item() < -0.05


def test_no_ghost_is_measured_where_no_outline_was_left_or_seen() -> None:
    photo, clean, before, after = scene(0.0, 12)
    assert metrics.ghost(photo, photo, before, before).isnan().all()
    assert metrics.ghost(GREY, GREY, before, after).isnan().all()
    both = [torch.cat(pair) for pair in ((photo, GREY), (clean, GREY), (before,) * 2, (after,) * 2)]
    assert metrics.ghost(*both).isnan().tolist() == [False, True]


# Sharpness


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_a_blur_leaves_the_energy_that_it_must(sigma: float) -> None:
    """A wave of w radians a pixel keeps exp(-s² w²); white noise the mean over the pass band."""
    wave = torch.sin(torch.arange(SIDE) * math.pi / 2 + 0.3).expand(1, 3, SIDE, -1)
    white = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    white = 0.3 * white.expand(-1, 3, -1, -1)
    w = 2 * math.pi * torch.fft.fftfreq(SIDE)
    square = w[:, None] ** 2 + w[None] ** 2

    def blurred(image: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(-(sigma**2) * square / 2)).real

    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 16:-16, 16:-16] = 1
    found = metrics.sharpness(wave, blurred(wave), mask).item()
    expected = math.exp(-((sigma * math.pi / 2) ** 2))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    band = (1 - torch.exp(-(1.5**2) * square / 2)) ** 2
    expected = ((band * torch.exp(-(sigma**2) * square)).sum() / band.sum()).item()
    found = metrics.sharpness(white, blurred(white), mask).item()
    assert found == pytest.approx(expected, rel=0.05)


def test_sharpness_is_of_fine_structure_under_the_mask() -> None:
    photo = 0.2 * noise(1, 1)
    ramp = torch.linspace(-0.5, 0.5, SIDE)
    assert metrics.sharpness(photo, photo + ramp, ALL).item() == pytest.approx(1, abs=0.01)
    assert metrics.sharpness(photo, 1.5 * photo, ALL).item() == pytest.approx(2.25, rel=1e-4)
    flat_left = torch.where(left_half() > 0, 0.0, photo)
    assert metrics.sharpness(photo, flat_left, left_half()).item() == pytest.approx(0, abs=1e-6)
    assert metrics.sharpness(photo, flat_left, 1 - left_half()).item() == pytest.approx(1, abs=1e-6)
    assert metrics.sharpness(photo, photo, 0 * ALL).isnan().all()
    assert metrics.sharpness(GREY, photo, ALL).isnan().all()


def test_masks_that_do_not_fit_are_refused() -> None:
    for act in (metrics.sharpness, metrics.colour_difference, metrics.background_change):
        with pytest.raises(InputError, match="bring it to the images' size"):
            act(GREY, GREY, ALL[..., 1:])
        with pytest.raises(InputError, match="expected 0 to 1"):
            act(GREY, GREY, 2 * ALL)
    with pytest.raises(InputError, match="floating point"):
        metrics.ghost(GREY, GREY, ALL, ALL > 0)


# Identity at equal change


def test_the_distance_at_a_wanted_change_by_hand() -> None:
    changes, distances = [0, 5, 10, 20, -4, -16], [0.1, 0.2, 0.3, 0.6, 0.2, 0.5]
    assert at_equal_change(changes, distances, 13).value == pytest.approx(0.39)
    assert at_equal_change(changes, distances, -13).value == pytest.approx(0.425)
    cosines = [1 - distance for distance in distances]
    assert at_equal_change(changes, cosines, 13, increasing=False).value == pytest.approx(0.61)


def test_noise_is_averaged_into_a_curve_that_never_falls() -> None:
    changes, distances = [0, 4, 8, 12, 16], [0.1, 0.3, 0.2, 0.25, 0.5]
    found = [at_equal_change(changes, distances, change).value for change in (4, 8, 10, 12, 14)]
    assert found == pytest.approx([0.25, 0.25, 0.25, 0.25, 0.375])
    skewed = at_equal_change([6, 6, 9, 9], [0.2, 0.4, 0.3, 0.5], 7.5)
    assert 0.3 <= (skewed.value or 0) <= 0.4


@pytest.mark.parametrize(
    ("changes", "wanted", "reason"),
    [
        ([0, 5, 9.25], 13, "changes of 0 to 9.25 were measured"),
        ([0, -5, -9], -13, "changes of 0 to -9 were measured"),
        ([14, 20], 13, "changes of 14 to 20 were measured"),
        ([0, -3, -8], 13, "fewer than two points towards +13"),
        ([], 13, "fewer than two points"),
    ],
)
def test_what_was_not_reached_is_not_extrapolated(
    changes: list[float], wanted: float, reason: str
) -> None:
    found = at_equal_change(changes, [0.1] * len(changes), wanted)
    assert found.value is None
    assert reason in found.reason
