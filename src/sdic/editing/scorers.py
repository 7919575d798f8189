"""Scorers: what a picture of a face shows, as one number for each image.

They label samples for InterFaceGAN and measure what an edit changes. Most are the attributes of
`sdic.recognition`, which two networks read; a few need no network, only pixels at fixed places of
the aligned image; beards and glasses are read by one probe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdic import recognition
from sdic.editing.samples import Scorer
from sdic.errors import InputError
from sdic.recognition.attributes import Role
from sdic.recognition.probes import PROBES

LUMINANCE = (0.2989, 0.587, 0.114)
ALIASES = {"smile": "happiness"}  # names of directions that the shelf of attributes calls otherwise


@dataclass(frozen=True)
class PixelMeasure:
    """A scorer without a network.

    Attributes:
        measure: images [N,3,256,256] in [-1,1], FFHQ-aligned, to [N].
        meaning: what a high value says.
    """

    measure: Scorer
    meaning: str


def luminance(images: Tensor) -> Tensor:
    """Luminance [N,H,W] of images [N,3,H,W], in the same range."""
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMINANCE))


def brightness(images: Tensor) -> Tensor:
    """Mean luminance of the face: images [N,3,256,256] in [-1,1] to [N]."""
    return luminance(images)[:, 96:208, 80:176].mean((1, 2))


def light_side(images: Tensor) -> Tensor:
    """Luminance of the right cheek less that of the left, in the image: [N,3,256,256] to [N]."""
    cheeks = luminance(images)[:, 128:192, 72:184]
    return cheeks[..., 56:].mean((1, 2)) - cheeks[..., :56].mean((1, 2))


def warmth(images: Tensor) -> Tensor:
    """Red less blue over the whole image: [N,3,256,256] in [-1,1] to [N]."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


PIXEL_MEASURES = {
    "brightness": PixelMeasure(brightness, "the face is bright"),
    "light-side": PixelMeasure(light_side, "light comes from the right of the image"),
    "warmth": PixelMeasure(warmth, "reddish rather than bluish"),
}


def names() -> list[str]:
    """Names that `create` knows."""
    return sorted({*ALIASES, *PROBES, *PIXEL_MEASURES, *recognition.list_attributes()})


def meaning(name: str) -> str:
    """What a high score says, with its unit.

    Raises:
        InputError: there is no scorer of this name.
    """
    _check(name)
    if name in PIXEL_MEASURES:
        return PIXEL_MEASURES[name].meaning
    if name in PROBES:
        return f"{PROBES[name].meaning} (log-odds)"
    attribute = recognition.get_attribute(ALIASES.get(name, name))
    unit = "log-odds" if attribute.unit == "probability" else attribute.unit
    return f"{attribute.meaning} ({unit})"


def create(name: str, role: Role = "labelling") -> Scorer:
    """A scorer by its name: images [N,3,256,256] in [-1,1] to [N], log-odds for a probability.

    Args:
        name: see `names`.
        role: "labelling" for samples, "judging" for edits; another network reads the same.
            Measures of pixels are their own judge, and so are probes.

    Raises:
        InputError: there is no scorer of this name, or what it needs is not installed.
        WeightsError: the weights of its network cannot be fetched.
    """
    _check(name)
    if name in PIXEL_MEASURES:
        return PIXEL_MEASURES[name].measure
    if name in PROBES:
        return PROBES[name].pretrained()
    return recognition.create_scorer(ALIASES.get(name, name), role).margin


def _check(name: str) -> None:
    if name not in names():
        raise InputError(f"There is no scorer '{name}'; known are: {', '.join(names())}.")
