"""Which files are pictures, and what kind of picture a file really is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sdic.errors import InputError, printable

FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
SUPPORTED = "JPEG, PNG, WebP, TIFF or HEIC"

# ISO base media brands of still pictures coded with HEVC.
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx"}
_FOREIGN = [
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file"),
    (b"PK\x03\x04", "a ZIP archive"),
]


def sniff_format(head: bytes) -> str | None:
    """Format of a file from its first 16 bytes (its name plays no part); None if unsupported."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "TIFF"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return None


def describe_head(head: bytes) -> str:
    """What an unsupported file seems to be, for an error message."""
    for signature, name in _FOREIGN:
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return "an AVIF" if head[8:12] in (b"avif", b"avis") else "a video or other media file"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    return "of an unknown kind"


def list_images(paths: Iterable[Path | str]) -> list[Path]:
    """All pictures that the given files and folders name.

    A file is taken as it is given. A folder stands for the pictures directly in it (by suffix,
    hidden files left out), in the order of their names. A picture named twice comes once.

    Raises:
        InputError: a path is empty, does not exist or cannot be looked at, or a folder has no
            picture in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not str(path).strip():
            raise InputError("A path is empty; name a file or a folder, '.' for this one.")
        found.update(dict.fromkeys(_pictures_of(Path(path))))
    return list(found)


def _pictures_of(path: Path) -> list[Path]:
    name = printable(path)
    try:
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"There is no file or folder {name}; check the path.")
            return [path]
        inside = sorted(
            entry
            for entry in path.iterdir()
            if entry.suffix.lower() in FORMAT_OF_SUFFIX
            and not entry.name.startswith(".")
            and entry.is_file()
        )
    except PermissionError:
        raise InputError(f"{name} may not be read; check the permissions.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be looked at: {error.strerror}.") from error
    if not inside:
        raise InputError(f"The folder {name} has no {SUPPORTED} file in it.")
    return inside
