"""Metadata that travels from the photo to the edited file: EXIF, XMP and the digital source type.

What describes the photo goes along (camera, time, place, author); what shows or might show the
unedited face does not: thumbnails and previews, in whatever block they lie.

A picture that a generative model has changed says so itself, by the IPTC property
Digital Source Type (IPTC Photo Metadata Standard 2023.1), written as XMP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias
from xml.dom import minidom

from PIL import ExifTags, Image

# What is left out of a written file: nothing, where the photo was taken, or all that describes it.
Strip: TypeAlias = Literal["none", "location", "all"]

_SOURCE_TYPE_SCHEME = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EDITED = _SOURCE_TYPE_SCHEME + "compositeWithTrainedAlgorithmicMedia"
GENERATED = _SOURCE_TYPE_SCHEME + "trainedAlgorithmicMedia"

_IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{_RDF}"/>\n'
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
).encode()
_MAX_SOURCE_XMP = 300_000  # bytes; a tree of them takes some hundred times that
_MAX_XMP = 65_000  # one JPEG segment holds 65,533 bytes with its header
MAX_JPEG_EXIF = 65_533

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
# First and last of the tags of the exposure directory that the Exif standard has. Not the maker
# notes: their offsets break when they move, and they hold previews; nor the sizes, nor what
# programs put there.
_EXPOSURE_TAGS = (
    (0x829A, 0x829D),
    (0x8822, 0x8835),
    (0x9000, 0x9214),
    (0x9286, 0x9286),
    (0x9290, 0x9292),
    (0x9400, 0x9406),
    (0xA000, 0xA001),
    (0xA004, 0xA004),
    (0xA20B, 0xA217),
    (0xA300, 0xA302),
    (0xA401, 0xA40C),
    (0xA420, 0xA420),
    (0xA430, 0xA43B),
    (0xA460, 0xA462),
    (0xA500, 0xA500),
)

_THUMBNAILS = re.compile("thumbnail|preview|hasextendedxmp", re.IGNORECASE)
# Depth maps, motion photos and second pictures of Android; a panorama's geometry is no picture.
_GOOGLE = re.compile(r"ns\.google\.com/photos/(?!.*/panorama/)")
_LOCATION = re.compile(
    "gps|latitude|longitude|longtitude|altitude|location|^(lat|long?|alt|city|state|country.*)$",
    re.IGNORECASE,
)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"WEBPVP8", b"ftyphei", b"ftypavi", b"8BIM")
_BASE64_PICTURE = re.compile(r"(?:^|base64,)\s*(?:/9j/|iVBORw0KGgo|UklGR|AAAA..?mZ0eX)")
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")
_LEAST_BASE64 = 160  # characters in lines of base64 that count as a picture


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of an opened picture; 1 if it has none or a broken one."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a parser raises what it likes on broken blocks
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, horizontally and vertically; None where that is missing or nonsense."""
    try:
        x, y = map(float, image.info["dpi"])
    except Exception:
        return None
    # JPEG holds 16 bits, and 1 is what files say that know nothing.
    return (x, y) if 1 < x <= 65_535 and 1 < y <= 65_535 else None


def descriptive_exif(image: Image.Image) -> bytes:
    """EXIF block with what describes the photo: camera, time, place, author; b"" if none.

    Left out are the orientation (pixels are upright after reading), sizes, and all that could
    still show the unedited face: the thumbnail, maker notes, tags that no standard knows, values
    with a picture in them. A broken block gives b"".
    """
    try:
        return _exif_block(image.getexif(), location=True)
    except Exception:
        return b""


def stripped_exif(block: bytes, strip: Strip, limit: int | None = None) -> bytes:
    """The part of an EXIF block that may be written; see `descriptive_exif`.

    Args:
        block: of the photo.
        strip: "location" leaves the place out, "all" everything.
        limit: bytes that the format can hold; the longest values are left out until it does.
    """
    if strip == "all" or not block:
        return b""
    exif = Image.Exif()
    try:
        exif.load(block)
        return _exif_block(exif, strip != "location", limit)
    except Exception:
        return b""


def _exif_block(source: Image.Exif, location: bool, limit: int | None = None) -> bytes:
    main = {tag: source[tag] for tag in _KEPT_TAGS if tag in source}
    exposure = {
        tag: value
        for tag, value in source.get_ifd(ExifTags.IFD.Exif).items()
        if any(first <= tag <= last for first, last in _EXPOSURE_TAGS)
    }
    place = dict(source.get_ifd(ExifTags.IFD.GPSInfo)) if location else {}
    directories: tuple[dict[int, Any], ...] = (main, exposure, place)
    for directory in directories:
        for tag in [tag for tag, value in directory.items() if _holds_picture(value)]:
            del directory[tag]
    while True:
        block = _to_bytes(main, exposure, place)
        if limit is None or len(block) <= limit:
            return block
        values = ((directory, tag) for directory in directories for tag in directory)
        directory, tag = max(values, key=lambda at: _length(at[0][at[1]]))
        del directory[tag]


def _to_bytes(main: Mapping[int, Any], exposure: Mapping[int, Any], place: Any) -> bytes:
    exif = Image.Exif()
    exif.update(main)
    if exposure:
        exif[ExifTags.IFD.Exif] = exposure
    if place:
        exif[ExifTags.IFD.GPSInfo] = place
    return exif.tobytes() if len(exif) else b""


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes | str | tuple) else 1


def _holds_picture(value: Any) -> bool:
    if isinstance(value, str):
        return _is_base64_picture(value) or _holds_picture(value.encode("latin-1", "replace"))
    return isinstance(value, bytes) and (
        any(signature in value for signature in _PICTURES)
        or _is_base64_picture(value.decode("latin-1"))
    )


def _is_base64_picture(text: str) -> bool:
    """Whether a text holds a picture as base64, or so much base64 that it may."""
    lines = _BASE64_LINE.findall(text)
    return bool(_BASE64_PICTURE.search(text)) or sum(map(len, lines)) >= _LEAST_BASE64


def xmp_packet(source: bytes, source_type: str | None, strip: Strip = "none") -> bytes:
    """XMP for a written file: the source's packet, upright, with the digital source type.

    Previews of the photo are left out. A source packet that is broken or very long is replaced by
    a new one, as is one that is still too long for a JPEG without them.

    Args:
        source: XMP packet of the photo, or b"".
        source_type: IPTC digital source type (`EDITED` or `GENERATED`); None leaves the packet's
            own, if it has one.
        strip: "location" leaves the place out, "all" everything but the digital source type.

    Returns:
        The packet; b"" if there is nothing to say.
    """
    packet = b""
    # Without a document type there are no entities that could grow.
    if source and strip != "all" and len(source) <= _MAX_SOURCE_XMP and b"<!DOCTYPE" not in source:
        try:
            packet = _rewritten(source, source_type, strip == "location")
        except Exception:
            packet = b""
    if source_type is not None and not 0 < len(packet) <= _MAX_XMP:
        packet = _rewritten(_PACKET, source_type, False)
    return packet if len(packet) <= _MAX_XMP else b""


def _rewritten(packet: bytes, source_type: str | None, without_location: bool) -> bytes:
    document = minidom.parseString(packet.strip(b"\0 \t\r\n"))  # noqa: S318, see xmp_packet
    [rdf] = document.getElementsByTagNameNS(_RDF, "RDF")
    _clean(document, source_type is not None, without_location)
    if source_type is not None:
        description = document.createElementNS(_RDF, "rdf:Description")
        description.setAttribute("xmlns:rdf", _RDF)
        description.setAttribute("xmlns:Iptc4xmpExt", _IPTC_EXTENSION)
        description.setAttribute("rdf:about", "")
        description.setAttribute("Iptc4xmpExt:DigitalSourceType", source_type)
        rdf.appendChild(description)
    return "".join(node.toxml() for node in document.childNodes).encode()


def _clean(
    parent: minidom.Document | minidom.Element, without_source_type: bool, without_location: bool
) -> None:
    """Leave out previews and what else is not wanted, and set the orientation to upright."""

    def unwanted(node: minidom.Attr | minidom.Element, text: str) -> bool:
        name, space = node.localName or "", node.namespaceURI or ""
        return bool(
            _THUMBNAILS.search(name)
            or _GOOGLE.search(space)
            or _is_base64_picture(text)
            or (without_source_type and name == "DigitalSourceType")
            or (without_location and _LOCATION.search(name))
        )

    for child in list(parent.childNodes):
        if isinstance(child, minidom.Element):
            texts = [node for node in child.childNodes if isinstance(node, minidom.Text)]
            if unwanted(child, "".join(text.data for text in texts)):
                parent.removeChild(child)
                continue
            for attribute in list(child.attributes.values()):
                if attribute.namespaceURI == _XMLNS:
                    continue
                if unwanted(attribute, attribute.value):
                    child.removeAttributeNode(attribute)
                elif (attribute.namespaceURI, attribute.localName) == (_TIFF, "Orientation"):
                    attribute.value = "1"
            if texts and (child.namespaceURI, child.localName) == (_TIFF, "Orientation"):
                texts[0].data = "1"
            _clean(child, without_source_type, without_location)
        elif child.nodeType == child.COMMENT_NODE:  # may hold anything
            parent.removeChild(child)
