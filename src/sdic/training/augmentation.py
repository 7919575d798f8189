"""Augmentation of aligned photos, reproducible: everything is drawn from the generator given.

Flip, colour and a small jitter of the crop make more of few photos. Occluders are what a generator
of faces could not have made (hands, microphones, lettering, hats stand behind them): shapes filled
with stripes, checks, noise, plain colours, or a piece of another photo. They teach a compensation
network that what lies outside the generator's range is to be carried through the features.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as nnf

from sdic import images as pictures
from sdic.training.recipe import Augmentation

# Ranges of the changes: mild, since the photos are aligned and shall stay faces.
BRIGHTNESS, CONTRAST, SATURATION, TINT = 0.15, 0.2, 0.3, 0.05
SHIFT, TURN, ZOOM = 0.02, math.radians(3), 0.04
# Of degraded images: part of the pixels of a side, deviation of noise, and JPEG's quality.
PIXELS, NOISE, QUALITY = (0.35, 1.0), 0.06, (30, 95)
_LUMA = (0.299, 0.587, 0.114)


def augment(images: Tensor, settings: Augmentation, random: torch.Generator) -> Tensor:
    """Flip, colour and jitter photos [N,3,H,W] in [-1,1]; the result stays in [-1,1]."""
    images = _flip(images, settings.flip, random)
    images = _jitter(images, settings.jitter, random)
    return _colour(images, settings.colour, random)


def degrade(images: Tensor, settings: Augmentation, random: torch.Generator) -> Tensor:
    """Some of the images [N,3,H,W] in [-1,1] with fewer pixels, noise and JPEG, as photos have."""
    degraded = images.clone()
    for i in range(len(images)):
        if _uniform(random) < settings.degrade:
            degraded[i : i + 1] = _degraded(images[i : i + 1], random)
    return degraded


def _degraded(image: Tensor, random: torch.Generator) -> Tensor:
    size = image.shape[-1]
    fewer = pictures.resize_antialiased(image, max(8, round(size * _uniform(random, *PIXELS))))
    image = nnf.interpolate(fewer, size=(size, size), mode="bicubic", align_corners=False)
    noise = torch.randn(image.shape, generator=random).to(image)
    image = image + _uniform(random, 0, NOISE) * noise
    with io.BytesIO() as stream:
        picture = Image.fromarray(pictures.to_uint8(image)[0])
        picture.save(stream, "JPEG", quality=round(_uniform(random, *QUALITY)))
        return pictures.to_tensor(np.asarray(Image.open(stream))).to(image)


@dataclass(frozen=True)
class Cover:
    """Shapes to be laid over images: how much of each pixel they hide, and what they put there.

    Attributes:
        mask: [N,1,H,W] in [0,1], 1 hides all.
        filling: [N,3,H,W], times the mask already.
    """

    mask: Tensor
    filling: Tensor

    def over(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] under the shapes."""
        return (1 - self.mask) * images + self.filling


def occlude(images: Tensor, settings: Augmentation, random: torch.Generator) -> Tensor:
    """Paste shapes onto some of the images [N,3,H,W] in [-1,1]."""
    return draw_cover(images, settings, random).over(images)


def draw_cover(donors: Tensor, settings: Augmentation, random: torch.Generator) -> Cover:
    """Shapes for some of N images; some are filled with pieces of the donors [N,3,H,W]."""
    mask = torch.zeros_like(donors[:, :1])
    filling = torch.zeros_like(donors)
    for i in range(len(donors)):
        if _uniform(random) >= settings.occluders:
            continue
        for _ in range(1 + int(_uniform(random) * settings.max_occluders)):
            shape = _shape(donors.shape[-2:], random).to(donors)
            filling[i] = torch.lerp(filling[i], _filling(donors, i, random), shape)
            mask[i] = torch.lerp(mask[i], torch.ones_like(shape), shape)
    return Cover(mask, filling)


def _flip(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), generator=random) < probability
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)


def _jitter(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    n = len(images)
    chosen = torch.rand(n, generator=random) < probability
    draws = 2 * torch.rand(4, n, generator=random) - 1
    if not chosen.any():
        return images
    angle, zoom = draws[0] * TURN, torch.exp(draws[1] * ZOOM)
    shift = draws[2:] * 2 * SHIFT  # the grid spans [-1,1], so a share of the side counts twice
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack((cos, -sin, shift[0], sin, cos, shift[1]), dim=1).view(n, 2, 3)
    grid = nnf.affine_grid(rows.to(images), list(images.shape), align_corners=False)
    moved = nnf.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return torch.where(chosen.to(images.device)[:, None, None, None], moved, images)


def _colour(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    n = len(images)
    chosen = torch.rand(n, generator=random) < probability
    draws = (2 * torch.rand(n, 6, 1, 1, generator=random) - 1).to(images)
    if not chosen.any():
        return images
    luma = images.new_tensor(_LUMA)[None, :, None, None]
    grey = (images * luma).sum(dim=1, keepdim=True)
    changed = torch.lerp(grey, images, 1 + SATURATION * draws[:, :1])
    mean = changed.mean(dim=(1, 2, 3), keepdim=True)
    changed = torch.lerp(mean, changed, 1 + CONTRAST * draws[:, 1:2])
    changed = changed + BRIGHTNESS * draws[:, 2:3] + TINT * draws[:, 3:]
    return torch.where(chosen.to(images.device)[:, None, None, None], changed.clamp(-1, 1), images)


def _uniform(random: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * torch.rand((), generator=random).item()


def _plane(size: torch.Size, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates [H,W] each in [-1,1], moved to a random centre and turned at random."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij"
    )
    angle = _uniform(random, 0, math.pi)
    x, y = x - _uniform(random, -0.9, 0.9), y - _uniform(random, -0.9, 0.9)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _shape(size: torch.Size, random: torch.Generator) -> Tensor:
    """A soft-edged mask [1,H,W]: ellipse, box, bar, blob, or frame; at times half transparent."""
    x, y = _plane(size, random)
    width, height = _uniform(random, 0.08, 0.45), _uniform(random, 0.08, 0.45)
    kind = int(_uniform(random, 0, 5))
    if kind == 0:  # ellipse
        distance = ((x / width).square() + (y / height).square()).sqrt() - 1
    elif kind == 1:  # box
        distance = torch.maximum((x / width).abs(), (y / height).abs()) - 1
    elif kind == 2:  # bar across the picture: a microphone, a strap, a frame of spectacles
        width = 0.25 * width
        distance = (y / width).abs() - 1
    elif kind == 4:  # frame: all but an ellipse in the middle, as another background
        radii = _uniform(random, 0.6, 0.95), _uniform(random, 0.7, 1.1)
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij"
        )
        distance = 1 - ((x / radii[0]).square() + (y / radii[1]).square()).sqrt()
    else:  # blob: an ellipse whose rim waves
        rim = 1 + 0.35 * torch.sin(
            int(_uniform(random, 2, 7)) * torch.atan2(y, x) + _uniform(random, 0, 6)
        )
        distance = ((x / width).square() + (y / height).square()).sqrt() / rim - 1
    softness = _uniform(random, 0.5, 3.0) * 2 / size[1] / min(width, height)
    opacity = 1.0 if _uniform(random) < 0.75 else _uniform(random, 0.4, 0.9)
    return (opacity * torch.sigmoid(-4 * distance / softness))[None]


def _filling(images: Tensor, index: int, random: torch.Generator) -> Tensor:
    """A texture [3,H,W] in [-1,1] in the place of a shape."""
    size = images.shape[-2:]
    colours = (2 * torch.rand(2, 3, 1, 1, generator=random) - 1).to(images)
    kind = int(_uniform(random, 0, 6))
    if kind == 0:  # a piece of another image of the batch, or of this one, upside down
        other = images[(index + int(_uniform(random, 0, len(images)))) % len(images)]
        shift = int(_uniform(random, 0, size[0])), int(_uniform(random, 0, size[1]))
        return other.flip(1).roll(shift, dims=(1, 2))
    if kind == 1:  # noise of a random grain
        grain = 2 ** int(_uniform(random, 2, 8))
        noise = torch.rand(1, 3, grain, grain, generator=random).to(images)
        return (2 * nnf.interpolate(noise, size=size, mode="bilinear") - 1)[0]
    x, y = _plane(size, random)
    frequency = _uniform(random, 8, 60)
    if kind == 2:  # stripes
        wave = 0.5 + 0.5 * torch.sin(frequency * x)
    elif kind == 3:  # checks
        wave = (torch.sin(frequency * x) * torch.sin(frequency * y) > 0).float()
    elif kind == 4:  # a slope from one colour to the other
        wave = (0.5 + 0.5 * x).clamp(0, 1)
    else:  # plain
        wave = torch.zeros(size)
    return torch.lerp(colours[0], colours[1], wave[None].to(images))
