"""Animations as files: GIF and WebP by Pillow, MP4 (H.264) by the optional PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sdic.errors import InputError
from sdic.files import write_whole

if TYPE_CHECKING:
    from sdic.images import Pixels

SUFFIXES = (".gif", ".webp", ".mp4")
WEBP_QUALITY, H264_QUALITY = 90, 18  # 18: looks lossless, as x264's authors put it


def write_animation(path: Path, frames: Sequence[Pixels], rate: float) -> None:
    """Write frames as an animation that repeats; the file's suffix chooses the format.

    The file appears whole or not at all, and says that a generative model has changed it. GIF
    counts time in hundredths of a second. H.264 wants even sides: a last odd row or column is cut.

    Args:
        path: .gif, .webp or .mp4.
        frames: pixels [H,W,3] uint8, all of one size.
        rate: frames in a second.

    Raises:
        InputError: the suffix is another, PyAV is missing, or the place cannot be written to.
    """
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        data = _mp4(frames, rate)
    elif suffix in SUFFIXES:
        data = _pillow(frames, rate, suffix)
    else:
        raise InputError(f"Cannot write {path}: the name has to end in {', '.join(SUFFIXES)}.")
    write_whole(path, data)


def _note() -> str:
    """What says that the frames were edited, where a format has no XMP."""
    from sdic.images.metadata import EDITED

    return f"Digital source type: {EDITED}"


def _pillow(frames: Sequence[Pixels], rate: float, suffix: str) -> bytes:
    from sdic.images.metadata import EDITED, xmp_packet

    first, *rest = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    milliseconds = round(1000 / rate)
    if suffix == ".gif":
        first.save(
            buffer,
            "GIF",
            save_all=True,
            append_images=rest,
            duration=max(10 * round(milliseconds / 10), 20),  # browsers slow down what is faster
            loop=0,
            comment=_note().encode(),
        )
    else:
        first.save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=milliseconds,
            loop=0,
            quality=WEBP_QUALITY,
            xmp=xmp_packet(b"", EDITED),
        )
    return buffer.getvalue()


def _mp4(frames: Sequence[Pixels], rate: float) -> bytes:
    try:
        av = import_module("av")
    except ImportError as error:
        raise InputError(
            "MP4 needs PyAV; install it with `pip install 'sdic[video]'`, or write .gif or .webp."
        ) from error
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata["comment"] = _note()
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(H264_QUALITY)}
        for frame in frames:
            even = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            container.mux(stream.encode(even))
        container.mux(stream.encode())
    return buffer.getvalue()
