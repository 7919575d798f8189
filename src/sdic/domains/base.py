"""The record of a domain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Focus:
    """An ellipse of an aligned picture in which its subject lies, in shares of the sides.

    Attributes:
        centre: x and y.
        radii: in x and y.
        softness: how soft the rim is, in radii.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    softness: float

    def weights(self, height: int, width: int) -> Tensor:
        """[height,width]: 1 on the subject, 0 far from it, soft in between."""
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height,
            (torch.arange(width) + 0.5) / width,
            indexing="ij",
        )
        across = (x - self.centre[0]) / self.radii[0]
        along = (y - self.centre[1]) / self.radii[1]
        return torch.sigmoid((1 - (across.square() + along.square()).sqrt()) / self.softness)


@dataclass(frozen=True)
class Domain:
    """What a generator shows, and what that decides for everything around it.

    Attributes:
        name: its key.
        subject: one of what it shows, in the words of messages.
        size: (height, width) in pixels of the aligned crop that a method sees.
        focus: where the subject of an aligned crop lies.
        detector: key of what finds the subject in a photo; "" where the whole picture is taken.
        detectors: keys of all that can.
        recogniser: key of the network of the identity loss.
        identity_metrics: keys of the metrics that judge whether it is the same one.
        identity_crop: rows and columns (first, last) of a 256x256 crop that a recogniser of the
            e4e family sees.
        edits: names of the directions that a benchmark measures unless told otherwise.
    """

    name: str
    subject: str
    size: tuple[int, int]
    focus: Focus
    detector: str
    detectors: tuple[str, ...]
    recogniser: str
    identity_metrics: tuple[str, ...]
    identity_crop: tuple[tuple[int, int], tuple[int, int]]
    edits: tuple[str, ...]
