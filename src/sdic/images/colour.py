"""Colour modes and ICC profiles: everything to 8-bit RGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from sdic.errors import InputError

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_SRGB = ImageCms.createProfile("sRGB")
_LARGEST_KEPT = 1_000_000  # bytes of a profile; the largest in use have half of that


def srgb_profile() -> bytes:
    """A small ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(_SRGB).tobytes()


def to_rgb(
    image: Image.Image, name: str, keep_profile: bool
) -> tuple[Image.Image, Image.Image | None, bytes | None]:
    """A decoded picture as RGB, its alpha (L) or None, and the ICC profile of the RGB values.

    A profile that is broken, or does not belong to the colour mode, counts as absent (sRGB). Each
    pixel is converted by itself, so that a large picture can be given in parts.

    Args:
        image: the picture.
        name: of its file, for messages.
        keep_profile: leave RGB values as they are, with their profile.

    Raises:
        InputError: values of a 32-bit picture lie outside what can be shown.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_eight_bits(image, name)
    image, alpha = _split_alpha(image)
    if image.mode in ("1", "P"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    icc = image.info.get("icc_profile")
    if icc:
        converted = _apply_profile(image, icc, keep_profile)
        if converted is not None:
            return converted[0], alpha, converted[1]
    return image.convert("RGB"), alpha, None


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        icc = image.info.get("icc_profile")
        straight = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        alpha = straight.getchannel("A")
        image = straight.convert("RGB")
        if icc and _colour_space(icc) == "RGB":
            image.info["icc_profile"] = icc
        else:
            image.info.pop("icc_profile", None)
        return image, alpha
    return image, None


def _to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey with 16 or 32 bits: integers are of 65,535, floating-point values of 1."""
    values = np.asarray(image).astype(np.float64)
    white = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > white:
        raise InputError(
            f"{name} has grey values outside 0 to {white:g}, so what is white in it is not known; "
            "save it with 8 or 16 bits first."
        )
    eight = Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8))
    eight.info = {key: image.info[key] for key in ("icc_profile",) if key in image.info}
    return eight


def _colour_space(icc: bytes) -> str:
    """Colour space in an ICC header: "RGB", "CMYK", "GRAY", "Lab"."""
    return icc[16:20].decode("ascii", "replace").strip()


def _apply_profile(
    image: Image.Image, icc: bytes, keep: bool
) -> tuple[Image.Image, bytes | None] | None:
    """RGB values and their profile, or None if the profile cannot be used for this picture."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if image.mode == "RGB" and len(icc) <= _LARGEST_KEPT and (keep or _is_srgb(source)):
            return image, icc
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if converted is None:
        return None
    return converted, srgb_profile()


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile moves no colour of a 6x6x6 cube by more than one level from sRGB."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3)
    moved = ImageCms.profileToProfile(Image.fromarray(cube), profile, _SRGB, outputMode="RGB")
    return moved is not None and bool(np.abs(np.asarray(moved).astype(int) - cube).max() <= 1)
