"""A photo in memory: its pixels, and what of its file travels on to the edited file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdic.errors import InputError

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture with the metadata of the file that it came from.

    Attributes:
        rgb: [H,W,3] uint8, in sRGB unless it was read with `profile="keep"`.
        alpha: [H,W] uint8, or None for a picture without transparency.
        exif: EXIF block of the source without orientation, thumbnail and maker notes; b"" if none.
        xmp: XMP packet of the source as it was, previews included; b"" if none.
        icc: ICC profile that describes `rgb`; None means sRGB by custom.
        dpi: horizontal and vertical resolution in dots per inch.
        format: format of the source file, e.g. "JPEG"; "" for a picture that came from no file.
        path: the source file.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    exif: bytes = field(default=b"", repr=False)
    xmp: bytes = field(default=b"", repr=False)
    icc: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    format: str = ""
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def with_rgb(self, rgb: Pixels) -> Photo:
        """The same photo with other pixels [H,W,3]; alpha stays only if the size is the same."""
        same_size = rgb.shape[:2] == self.rgb.shape[:2]
        return replace(self, rgb=rgb, alpha=self.alpha if same_size else None)

    def save(self, path: Path | str, **options: Any) -> Path:
        """Write the picture with its metadata and transparency; see `images.write`.

        Args:
            path: its suffix chooses the format.
            options: of `images.write`; unless told otherwise the file says that a generative model
                changed the photo.

        Raises:
            InputError: see there.
        """
        from sdic.images.writing import write

        return write(path, self, **options)


def check_rgb(rgb: Pixels) -> None:
    """Raise InputError unless rgb is uint8 [H,W,3] with at least one pixel."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise InputError(
            f"Got pixels of type {rgb.dtype} and shape {list(rgb.shape)}; expected uint8 [H,W,3]."
        )
