"""Write a picture file: whole or not at all, with metadata that says what was done to it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from sdic.errors import InputError, printable
from sdic.files import write_whole
from sdic.images.files import FORMAT_OF_SUFFIX
from sdic.images.metadata import (
    EDITED,
    GENERATED,
    MAX_JPEG_EXIF,
    Strip,
    stripped_exif,
    xmp_packet,
)
from sdic.images.photo import Photo, Pixels, check_rgb

DEFAULT_QUALITY = 95

_MAX_SIDE = {"JPEG": 65_535, "WEBP": 16_383}
_TIFF_XMP = 700
_FULL_CHROMA = 90  # quality from which JPEG and HEIC keep colour at full resolution


def write(
    path: Path | str,
    picture: Photo | Pixels,
    *,
    quality: int = DEFAULT_QUALITY,
    edited: bool = True,
    generated: bool = False,
    like: Photo | None = None,
    strip: Strip = "none",
) -> Path:
    """Write a picture in the format of the file's suffix; missing folders are made.

    The file appears whole or not at all: it is written beside its place and then moved there.
    EXIF, XMP, ICC profile and resolution come from `like`, or from `picture` if that is a Photo;
    thumbnails and other previews of the photo never do.
    JPEG has no transparency: there the picture is laid on white.

    Args:
        path: .jpg, .jpeg, .png, .webp, .tif, .tiff, .heic or .heif.
        picture: a Photo, or pixels [H,W,3] uint8.
        quality: 1 to 100 for JPEG, WebP and HEIC; WebP of quality 100 is lossless, as PNG and
            TIFF always are.
        edited: a generative model has changed the photo; the metadata say so.
        generated: no photo is behind the picture at all; the metadata say so.
        like: the photo whose metadata the file gets.
        strip: what of them is left out: "none"; "location", where the photo was taken; "all" that
            describes it, so that only colour profile, resolution and the mark of an edit stay.

    Returns:
        The path.

    Raises:
        InputError: the suffix, the quality or the picture is wrong for the format, or the place
            cannot be written to.
    """
    path = Path(path)
    photo = picture if isinstance(picture, Photo) else Photo(picture)
    check_rgb(photo.rgb)
    format_name = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if format_name is None:
        known = ", ".join(FORMAT_OF_SUFFIX)
        raise InputError(f"Cannot write {printable(path)}: the name has to end in one of {known}.")
    if not 1 <= quality <= 100:
        raise InputError(f"The quality is {quality}; expected 1 to 100.")
    limit = _MAX_SIDE.get(format_name)
    if limit is not None and max(photo.size) > limit:
        raise InputError(
            f"Cannot write {printable(path)}: a side of {max(photo.size):,} pixels is more than "
            f"{format_name} can hold ({limit:,}); write PNG or TIFF."
        )
    source_type = GENERATED if generated else EDITED if edited else None
    data = _encode(photo, format_name, quality, source_type, like or photo, strip)
    write_whole(path, data)
    return path


def _encode(
    photo: Photo,
    format_name: str,
    quality: int,
    source_type: str | None,
    like: Photo,
    strip: Strip,
) -> bytes:
    image = _image(photo, format_name)
    options: dict[str, Any] = {}
    if like.icc:
        options["icc_profile"] = like.icc
    exif = stripped_exif(like.exif, strip, MAX_JPEG_EXIF if format_name == "JPEG" else None)
    if exif:
        options["exif"] = exif
    if like.dpi and format_name in ("JPEG", "PNG", "TIFF"):
        options["dpi"] = like.dpi
    xmp = xmp_packet(like.xmp, source_type, strip)
    buffer = io.BytesIO()
    if format_name == "JPEG":
        chroma = "4:4:4" if quality >= _FULL_CHROMA else "4:2:0"
        options |= {"quality": quality, "subsampling": chroma, "optimize": True}
        image.save(buffer, "JPEG", xmp=xmp, **options)
    elif format_name == "PNG":
        text = PngImagePlugin.PngInfo()
        if xmp:
            text.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        image.save(buffer, "PNG", pnginfo=text, **options)
    elif format_name == "WEBP":
        image.save(buffer, "WEBP", quality=quality, lossless=quality == 100, xmp=xmp, **options)
    elif format_name == "TIFF":
        tags = Image.Exif()
        tags.load(options.pop("exif", b""))
        if xmp:
            tags[_TIFF_XMP] = xmp
        # Not compressed: Pillow's compressed writer loses the directories of exposure and place.
        image.save(buffer, "TIFF", exif=tags, **options)
    else:
        _save_heif(image, buffer, quality, xmp, options)
    return buffer.getvalue()


def _image(photo: Photo, format_name: str) -> Image.Image:
    """The pixels as a Pillow image, with transparency where the format has any."""
    image = Image.fromarray(photo.rgb)
    if photo.alpha is None:
        return image
    alpha = Image.fromarray(photo.alpha)
    if format_name == "JPEG":
        return Image.composite(image, Image.new("RGB", image.size, (255, 255, 255)), alpha)
    image.putalpha(alpha)
    return image


def _save_heif(
    image: Image.Image, buffer: io.BytesIO, quality: int, xmp: bytes, options: dict[str, Any]
) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            "Writing HEIC needs the library pillow-heif, which is not installed; "
            "install it with: pip install 'sdic[heic]', or write JPEG or PNG."
        ) from None
    if "icc_profile" in options:
        image.info["icc_profile"] = options["icc_profile"]
    file = pillow_heif.from_pillow(image)
    chroma = 444 if quality >= _FULL_CHROMA else 420
    file.save(buffer, quality=quality, chroma=chroma, exif=options.get("exif"), xmp=xmp or None)
