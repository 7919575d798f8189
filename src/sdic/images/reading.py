"""Read a picture file: checked before it is decoded, upright, 8 bits, sRGB."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from sdic.errors import InputError, printable
from sdic.files import check_readable
from sdic.images.colour import to_rgb
from sdic.images.files import SUPPORTED, describe_head, sniff_format
from sdic.images.metadata import descriptive_exif, orientation, resolution
from sdic.images.photo import Photo, Pixels

DEFAULT_MAX_PIXELS = 100_000_000

_STRIP = 1 << 21  # pixels that are brought to 8-bit RGB at once
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(
    path: Path | str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    profile: Literal["convert", "keep"] = "convert",
) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF or HEIC file.

    The format is told from the content, not from the name. Of several frames the first is taken.
    CMYK, palette, grey, Lab and 16-bit pictures become 8-bit RGB, transparency goes to `alpha`.

    Args:
        path: the file.
        max_pixels: pictures with more pixels are refused before anything is decoded.
        profile: "convert" converts an ICC profile other than sRGB to sRGB; "keep" leaves RGB
            values as they are and keeps the profile for the written file (no colour is clipped).

    Raises:
        InputError: the file is missing, empty, damaged, too large or of another kind, or it is
            HEIC and the library pillow-heif is not installed.
    """
    path = Path(path)
    name = printable(path)
    try:
        check_readable(path, "picture")
        with path.open("rb") as file:
            image, format_name = _open(file, name, max_pixels)
            rgb, alpha, icc = _decode(image, name, profile)
            xmp = image.info.get("xmp", b"")
            return Photo(
                rgb=rgb,
                alpha=alpha,
                exif=descriptive_exif(image),
                xmp=xmp if isinstance(xmp, bytes) else b"",
                icc=icc,
                dpi=resolution(image),
                format=format_name,
                path=path,
            )
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _as_damage(name: str, format_name: str, size: tuple[int, int] | None = None) -> Iterator[None]:
    """Turn whatever a parser of damaged files raises into a sentence."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, for canvases and tiles
        raise InputError(f"{name} has too many pixels to be read; make it smaller first.") from None
    except MemoryError:
        sides = f" ({size[0]:,}x{size[1]:,} pixels)" if size else ""
        raise InputError(
            f"{name} does not fit into memory{sides}; make it smaller first."
        ) from None
    except Exception as error:
        raise InputError(
            f"{name} is a damaged or cut-off {format_name} file ({error}); "
            "copy it again from where it came from."
        ) from error


def _open(file: IO[bytes], name: str, max_pixels: int) -> tuple[Image.Image, str]:
    """The picture, opened but not decoded, and its format."""
    head = file.read(40)
    if not head:
        raise InputError(f"{name} is empty (0 bytes); expected a {SUPPORTED} file.")
    format_name = sniff_format(head)
    if format_name is None:
        raise InputError(
            f"{name} is not a picture that can be read: its content is {describe_head(head[:16])}. "
            f"Expected {SUPPORTED}; convert the file first."
        )
    if format_name == "WEBP":
        # The decoder reserves the whole canvas when it opens a file.
        _check_size(_webp_size(head), name, max_pixels)
    file.seek(0)
    with _as_damage(name, format_name):
        image = _parse(file, format_name)
    _check_size(image.size, name, max_pixels)
    return image, format_name


def _parse(file: IO[bytes], format_name: str) -> Image.Image:
    """Read the header with the format's own parser; no other parser ever sees the file."""
    if format_name == "JPEG":
        return JpegImagePlugin.JpegImageFile(file)
    if format_name == "PNG":
        return PngImagePlugin.PngImageFile(file)
    if format_name == "WEBP":
        return WebPImagePlugin.WebPImageFile(file)
    if format_name == "TIFF":
        return TiffImagePlugin.TiffImageFile(file)
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            "HEIC files need the library pillow-heif, which is not installed; "
            "install it with: pip install 'sdic[heic]'."
        ) from None
    heif_parser: Callable[[IO[bytes]], Image.Image] = pillow_heif.HeifImageFile
    return heif_parser(file)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height from the first 30 bytes of a WebP file (RFC 9649); (0, 0) if damaged."""
    chunk, body = head[12:16], head[20:]
    if chunk == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width:,}x{height:,} pixels; at most {max_pixels / 1e6:g} megapixels are "
            "read. Make it smaller, or raise the limit (max_pixels)."
        )


def _decode(
    image: Image.Image, name: str, profile: Literal["convert", "keep"]
) -> tuple[Pixels, Pixels | None, bytes | None]:
    """Pixels [H,W,3], alpha [H,W] or None, and the profile that describes the pixels.

    The picture is converted in strips: some modes need 25 bytes a pixel on the way.
    """
    with _as_damage(name, image.format or "picture", image.size):
        image.load()
        turn = _UPRIGHT.get(orientation(image))
        upright = image if turn is None else image.transpose(turn)
        width, height = upright.size
        rgb = np.empty((height, width, 3), np.uint8)
        alpha: Pixels | None = None
        icc = None
        rows = max(1, _STRIP // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            strip = upright.crop((0, top, width, bottom))
            converted, transparency, icc = to_rgb(strip, name, keep_profile=profile == "keep")
            rgb[top:bottom] = np.asarray(converted)
            if transparency is not None:
                alpha = np.empty((height, width), np.uint8) if alpha is None else alpha
                alpha[top:bottom] = np.asarray(transparency)
        return rgb, alpha, icc
