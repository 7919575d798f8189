"""What an edit does to a photo that nobody asked for: colours, background, ghosts, blur.

All take photos and edited photos [N,3,H,W] in [-1,1] (sRGB), best at the photo's own resolution,
and masks [N,1,H,W] in [0,1]; all give one value for each pair, which is NaN where there is nothing
to measure, such as under an empty mask. None needs a network: the caller brings the masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.errors import InputError
from sdic.images import resize_area
from sdic.metrics.pixels import check_pair

LEVELS = 255 / 2  # levels of 8 bits in a unit of [-1,1]
LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709
BLUR_SIGMA = 1.5  # pixels; halves the amplitude at a quarter of the Nyquist frequency
BLUR_REACH = 6  # pixels, 4 sigma
OUTLINE_SIDE = 512  # pixels of the shorter side at which outlines are compared; they are not fine
OUTLINE_WIDTH = 1 / 64  # of the shorter side: reach of what counts as near an outline
MATTE_STEP = 0.1  # within that reach, which makes a matte's border
LEAST_OUTLINE = 0.05  # part of the old outline that has to be left for a ghost to be measured
_CHUNK = 1 << 18  # pixels that are converted to Lab at once


def colour_difference(photos: Tensor, edits: Tensor, mask: Tensor) -> Tensor:
    """Mean CIEDE2000 difference [N] of the pixels under a mask; 0 is equal, 1 just visible.

    For regions that stay in their place. The mask's values weigh the pixels.

    Raises:
        InputError: the shapes differ, or scikit-image is not installed.
    """
    _check(photos, edits, mask)
    color = _library()
    means = []
    for photo, edit, weight in zip(photos, edits, mask[:, 0], strict=True):
        total = 0.0
        pixels, others, weights = (_under(image, weight) for image in (photo, edit, weight[None]))
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            labs = (color.rgb2lab(values[part].numpy()) for values in (pixels, others))
            difference = torch.from_numpy(color.deltaE_ciede2000(*labs))
            total += float((difference * weights[part, 0]).sum())
        means.append(total / float(weights.sum()) if len(weights) else math.nan)
    return torch.tensor(means)


def mean_colour_difference(
    photos: Tensor, edits: Tensor, mask: Tensor, edited_mask: Tensor
) -> Tensor:
    """CIEDE2000 difference [N] of a region's mean colours in the photo and in the edit.

    For regions that an edit moves, such as hair when a head turns: the mean is that of Lab colours.

    Args:
        photos: the photos.
        edits: the edited photos.
        mask: where the region is in the photo.
        edited_mask: where it is in the edit.

    Raises:
        InputError: the shapes differ, or scikit-image is not installed.
    """
    _check(photos, edits, mask, edited_mask)
    color = _library()
    values = []
    for pair in zip(photos, edits, mask[:, 0], edited_mask[:, 0], strict=True):
        means = []
        for image, weight in (pair[0::2], pair[1::2]):
            pixels, weights = _under(image, weight), _under(weight[None], weight)
            total = torch.zeros(3, dtype=torch.float64)
            for start in range(0, len(pixels), _CHUNK):
                part = slice(start, start + _CHUNK)
                lab = torch.from_numpy(color.rgb2lab(pixels[part].numpy()))
                total += (lab * weights[part]).sum(0)
            means.append((total / weights.sum()).numpy())
        values.append(float(color.deltaE_ciede2000(*means)))
    return torch.tensor(values)


@dataclass(frozen=True)
class BackgroundChange:
    """What an edit changed where it should have changed nothing.

    Attributes:
        equal: [N] share of the pixels that are bit-equal.
        largest: [N] largest difference of a channel, in levels of 255.
    """

    equal: Tensor
    largest: Tensor


def background_change(
    photos: Tensor, edits: Tensor, mask: Tensor, threshold: float = 0.0
) -> BackgroundChange:
    """How far the pixels outside a mask stayed as they were.

    Args:
        photos: the photos, as `images.to_tensor` gives them, so that equal is bit-equal.
        edits: the edited photos.
        mask: what the edit may change: the person before and after it, as one mask.
        threshold: a pixel is outside where the mask is not above this.

    Raises:
        InputError: the shapes differ.
    """
    _check(photos, edits, mask)
    outside = mask[:, 0] <= threshold
    changes = (photos - edits).abs().amax(1) * LEVELS
    equal = ((changes == 0) & outside).sum((1, 2)) / outside.sum((1, 2))
    largest = torch.where(outside, changes, -torch.inf).amax((1, 2))
    return BackgroundChange(equal, largest.where(largest >= 0, math.nan))


def ghost(photos: Tensor, edits: Tensor, matte: Tensor, edited_matte: Tensor) -> Tensor:
    """How much of the photo's old outline an edit left where the outline is no longer: [N].

    0 is gone, 1 fully there; the photo laid over the edit with opacity a gives a, and a copy that
    shows behind the new head only, less by what that covers. Below 0 the outline shows with its
    contrast turned. NaN where the outline has moved nowhere or has no contrast.

    The outline is looked for as what it was made of: near the old silhouette a photo is about
    m A + (1 - m) B, with matte m and the colours A inside and B outside nearby, so the outline's
    own gradient is t = ∇m (A - B). The measure is the sum of <∇edit, t> over that of <∇photo, t>,
    where the silhouette has left: along the old outline, but not near the new one. Texture of hair
    and background has no sign in common with t, and averages out.

    Args:
        photos: the photos.
        edits: the edited photos.
        matte: of the person in the photo.
        edited_matte: of the person in the edit.

    Raises:
        InputError: the shapes differ.
    """
    _check(photos, edits, matte, edited_matte)
    shrink = OUTLINE_SIDE / min(photos.shape[-2:])
    if shrink < 1:
        height, width = (round(side * shrink) for side in photos.shape[-2:])
        photos, edits, matte, edited_matte = (
            resize_area(each, (height, width)) for each in (photos, edits, matte, edited_matte)
        )
    reach = max(1, round(min(photos.shape[-2:]) * OUTLINE_WIDTH))
    window = 2 * reach + 1
    near_new = (_highest(edited_matte, window) + _highest(-edited_matte, window)) > MATTE_STEP
    inside, outside = (
        _mean(photos * weight, 2 * window) / _mean(weight, 2 * window).clamp_min(1e-6)
        for weight in (matte, 1 - matte)
    )
    outline = _gradient(matte)
    template = outline[:, :, None] * (inside - outside)[:, None]
    left = template * ~near_new[:, None]
    length = outline.square().sum(1, keepdim=True).sqrt()
    share = (length * ~near_new).sum((1, 2, 3)) / length.sum((1, 2, 3))
    before, after = (
        (_gradients(images) * left).sum((1, 2, 3, 4), dtype=torch.float64)
        for images in (photos, edits)
    )
    # Where outline and photo agree, `before` is about the energy of the template.
    energy = left.square().sum((1, 2, 3, 4), dtype=torch.float64)
    seen = (share > LEAST_OUTLINE) & (before > 0.1 * energy) & (energy > 0)
    return (after / before).where(seen, math.nan).to(photos.dtype)


def sharpness(photos: Tensor, edits: Tensor, mask: Tensor) -> Tensor:
    """Energy of the edit's fine structure over that of the photo's, under a mask: [N]; 1 is equal.

    Fine is what a Gaussian of sigma 1.5 takes away, frequencies from a quarter of Nyquist on, in
    luma. A blur of sigma s leaves exp(-s² w²) of the energy at w radians a pixel. The photo's noise
    is fine structure, too: compare only at the photo's own resolution. Pixels near the mask's
    border do not count.

    Raises:
        InputError: the shapes differ.
    """
    _check(photos, edits, mask)
    weight = -_highest(-mask, 2 * BLUR_REACH + 1)  # eroded by the filter's reach
    energies = []
    for images in (photos, edits):
        luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        fine = luma - _blurred(luma)
        energies.append((fine.square() * weight).sum((1, 2, 3), dtype=torch.float64))
    before, after = energies
    return (after / before).where(before > 0, math.nan).to(photos.dtype)


def _check(photos: Tensor, edits: Tensor, *masks: Tensor) -> None:
    check_pair(photos, edits)
    expected = (len(photos), 1, *photos.shape[-2:])
    for mask in masks:
        if mask.shape != expected or not mask.is_floating_point():
            raise InputError(
                f"A mask of floating point and shape {expected} was expected, not {mask.dtype} of"
                f" {tuple(mask.shape)}: bring it to the images' size."
            )
        if mask.min() < 0 or mask.max() > 1:
            raise InputError(
                f"The values of a mask lie between {mask.min():g} and {mask.max():g}; expected 0"
                " to 1."
            )


def _library() -> Any:
    try:
        from skimage import color
    except ImportError:
        raise InputError(
            "Colour differences need scikit-image, which is not installed; install it with: "
            "pip install 'sdic[evaluate]'."
        ) from None
    return color


def _under(image: Tensor, weight: Tensor) -> Tensor:
    """Pixels [K,C] of an image [C,H,W] where a weight [H,W] is above 0; colours in [0,1]."""
    chosen = image[:, weight > 0].T.cpu().double()
    return (chosen.clamp(-1, 1) + 1) / 2 if len(image) == 3 else chosen


def _gradient(maps: Tensor) -> Tensor:
    """Central differences [N,2,H,W] (down, right) of [N,1,H,W]; 0 beyond the border."""
    padded = nnf.pad(maps, (1, 1, 1, 1), mode="replicate")
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    return torch.cat((down, right), 1) / 2


def _gradients(images: Tensor) -> Tensor:
    """Central differences [N,2,C,H,W] of [N,C,H,W]."""
    return torch.stack([_gradient(channel[:, None]) for channel in images.unbind(1)], 2)


def _highest(maps: Tensor, window: int) -> Tensor:
    """Largest value of [N,1,H,W] within an odd window around each pixel."""
    rows = nnf.max_pool2d(maps, (window, 1), 1, (window // 2, 0))
    return nnf.max_pool2d(rows, (1, window), 1, (0, window // 2))


def _mean(maps: Tensor, window: int) -> Tensor:
    """Mean of [N,C,H,W] within a window of at least that width, odd, around each pixel."""
    half = window // 2
    rows = nnf.avg_pool2d(maps, (2 * half + 1, 1), 1, (half, 0), count_include_pad=False)
    return nnf.avg_pool2d(rows, (1, 2 * half + 1), 1, (0, half), count_include_pad=False)


def _blurred(maps: Tensor) -> Tensor:
    """Gaussian blur of [N,1,H,W] with `BLUR_SIGMA`; the border is repeated."""
    offsets = torch.arange(-BLUR_REACH, BLUR_REACH + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (offsets / BLUR_SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    padded = nnf.pad(maps, (BLUR_REACH,) * 4, mode="replicate")
    return nnf.conv2d(nnf.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])
