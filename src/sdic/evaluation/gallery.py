"""Pictures of a report: small, inside the page, with maps of what is wrong where."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sdic.images import Pixels

QUALITY = 85
ERROR_SCALE = 64  # mean difference over the channels, of 255, that the map shows as white


@dataclass(frozen=True)
class GalleryImage:
    """One image of the gallery.

    Attributes:
        image: name of the file.
        photo: [256,256,3] uint8.
        made: for each method, pictures by the label of the edit; "" is the reconstruction.
    """

    image: str
    photo: Pixels
    made: Mapping[str, Mapping[str, Pixels]]


def error_map(made: Pixels, photo: Pixels) -> Pixels:
    """Where two pictures [H,W,3] differ: black is equal, then red, yellow, and white at 64 of 255.

    The difference is the mean of the absolute differences of the channels.
    """
    difference = np.abs(made.astype(np.float64) - photo.astype(np.float64)).mean(2)
    level = np.clip(difference / ERROR_SCALE, 0, 1)[..., None] * 3
    heat = np.clip(level - np.arange(3), 0, 1)  # red rises first, then green, then blue
    return np.asarray(np.round(heat * 255), dtype=np.uint8)


def data_uri(pixels: Pixels) -> str:
    """A picture as text that can stand in a page."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
