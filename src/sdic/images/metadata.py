"""Metadata that travels from the photo to the edited file: EXIF, XMP and the digital source type.

A picture that a generative model has changed says so itself, by the IPTC property
Digital Source Type (IPTC Photo Metadata Standard 2023.1), written as XMP.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from PIL import ExifTags, Image

_SOURCE_TYPE_SCHEME = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EDITED = _SOURCE_TYPE_SCHEME + "compositeWithTrainedAlgorithmicMedia"
GENERATED = _SOURCE_TYPE_SCHEME + "trainedAlgorithmicMedia"

_IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF_END = b"</rdf:RDF>"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
).encode()
_MAX_XMP = 65_000  # one JPEG segment holds 65,533 bytes with its header

# Tags of the first EXIF directory that describe the photo rather than the file's layout.
_KEPT_TAGS = (
    0x010E,  # ImageDescription
    0x010F,  # Make
    0x0110,  # Model
    0x0131,  # Software
    0x0132,  # DateTime
    0x013B,  # Artist
    0x8298,  # Copyright
)
# Maker notes hold offsets that break when they move, and previews of the unedited face.
_MAKER_NOTE, _INTEROPERABILITY = 0x927C, 0xA005
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of an opened picture; 1 if it has none or a broken one."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def descriptive_exif(image: Image.Image) -> bytes:
    """EXIF block with what describes the photo: camera, time, place, author; b"" if none.

    Left out are the orientation (pixels are upright after reading), sizes, the thumbnail and
    maker notes (they would still show the unedited face). A broken block gives b"".
    """
    try:
        source = image.getexif()
        kept = Image.Exif()
        for tag in _KEPT_TAGS:
            if tag in source:
                kept[tag] = source[tag]
        exposure: dict[int, Any] = dict(source.get_ifd(ExifTags.IFD.Exif))
        for tag in (_MAKER_NOTE, _INTEROPERABILITY, _PIXEL_WIDTH, _PIXEL_HEIGHT):
            exposure.pop(tag, None)
        if exposure:
            kept[ExifTags.IFD.Exif] = exposure
        place = dict(source.get_ifd(ExifTags.IFD.GPSInfo))
        if place:
            kept[ExifTags.IFD.GPSInfo] = place
        return kept.tobytes() if len(kept) else b""
    except _BROKEN:
        return b""


def xmp_packet(source: bytes, source_type: str | None) -> bytes:
    """XMP for a written file: the source's packet, upright, with the digital source type.

    Args:
        source: XMP packet of the photo, or b"".
        source_type: IPTC digital source type (`EDITED` or `GENERATED`); None leaves the packet's
            own, if it has one.

    Returns:
        The packet; b"" if there is nothing to say. A source packet that is broken, or too long
        for a JPEG, is replaced by a new one.
    """
    packet = source if _RDF_END in source and len(source) <= _MAX_XMP else b""
    packet = re.sub(rb'(tiff:Orientation=["\'])\d', rb"\g<1>1", packet)
    packet = re.sub(rb"(<tiff:Orientation>)\d", rb"\g<1>1", packet)
    if source_type is None:
        return packet
    name = rb"[\w.-]+:DigitalSourceType"
    packet = re.sub(rb"\s" + name + rb'\s*=\s*("[^"]*"|\'[^\']*\')', b"", packet)
    packet = re.sub(rb"<(" + name + rb")\b[^>]*(/>|>.*?</\1\s*>)", b"", packet, flags=re.DOTALL)
    description = (
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC_EXTENSION}"\n'
        f'   Iptc4xmpExt:DigitalSourceType="{source_type}"/>\n '
    ).encode()
    head, end, tail = (packet or _PACKET).rpartition(_RDF_END)
    return head + description + end + tail
