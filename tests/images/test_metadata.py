"""What of a photo's metadata reaches the edited file: never a preview, its place if wanted."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from sdic import images
from sdic.images.metadata import EDITED, GENERATED, xmp_packet

SUFFIXES = (".jpg", ".png", ".webp", ".tif", ".heic")
RGB = np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def jpeg(side: int = 8) -> bytes:
    """A small JPEG, as cameras keep previews of the photo."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


THUMBNAIL = jpeg()
BASE64 = base64.b64encode(THUMBNAIL).decode()
LINES = "&#xA;".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))

NAMESPACES = """xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:GImage="http://ns.google.com/photos/1.0/image/" xmlns:own="http://example.org/own/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" """


def packet(inside: str = "", attributes: str = "") -> bytes:
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        f'xmlns:x="adobe:ns:meta/"><rdf:RDF {NAMESPACES}><rdf:Description rdf:about="" '
        f'{attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


PREVIEWS = packet(
    f"""<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:format>JPEG
    </xmpGImg:format><xmpGImg:image>{LINES}</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
    <own:second>{BASE64}</own:second><!-- {BASE64} -->
    <own:deep><rdf:Seq><rdf:li own:picture="{LINES}">kept text</rdf:li></rdf:Seq></own:deep>
    <dc:title><rdf:Alt><rdf:li xml:lang="x-default">A &amp; B</rdf:li></rdf:Alt></dc:title>
    <mwg-rs:Regions><rdf:Bag><rdf:li mwg-rs:Name="Jane Doe"/></rdf:Bag></mwg-rs:Regions>
    <Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li Iptc4xmpExt:City="Uppsala"/></rdf:Bag>
    </Iptc4xmpExt:LocationShown>""",
    f'exif:GPSLatitude="59,51.5N" photoshop:City="Uppsala" GImage:Data="{BASE64}" '
    'tiff:Orientation="6"',
)


def exif() -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Make] = "Camera Works"
    block[ExifTags.Base.ImageDescription] = BASE64
    block[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: 0.01,
        ExifTags.Base.CameraOwnerName: "A. Nother",
        ExifTags.Base.UserComment: b"ASCII\0\0\0" + THUMBNAIL,
        ExifTags.Base.MakerNote: THUMBNAIL,
        0xFDE8: THUMBNAIL,
    }
    block[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return block


def with_thumbnail(block: bytes) -> bytes:
    """An EXIF block with a second directory that holds a thumbnail, as cameras write it."""
    tiff = bytearray(block.removeprefix(b"Exif\0\0"))
    order = "<" if tiff[:2] == b"II" else ">"
    (entries,) = struct.unpack_from(order + "H", tiff, 8)
    struct.pack_into(order + "I", tiff, 10 + 12 * entries, len(tiff))
    start = len(tiff) + 2 + 3 * 12 + 4
    tags = ((0x0103, 3, 6), (0x0201, 4, start), (0x0202, 4, len(THUMBNAIL)))
    tiff += struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        packed = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0)[: 5 - kind]))
        tiff += struct.pack(order + "HHI", tag, kind, 1) + packed
    return b"Exif\0\0" + bytes(tiff) + struct.pack(order + "I", 0) + THUMBNAIL


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def photoshop() -> bytes:
    """Photoshop's image resources with a thumbnail."""
    data = struct.pack(">IIIIIIHH", 1, 8, 8, 24, 192, len(THUMBNAIL), 24, 1) + THUMBNAIL
    return b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(data)) + data


def planted(path: Path) -> Path:
    """A photo with previews in every place that its format has for them."""
    image = Image.fromarray(RGB)
    block: Any = with_thumbnail(exif().tobytes())
    if path.suffix == ".tif":
        tags = Image.Exif()
        tags.load(exif().tobytes())
        tags[34377] = photoshop()
        tags[700] = PREVIEWS
        image.save(path, exif=tags)
        path.write_bytes(with_thumbnail(path.read_bytes()).removeprefix(b"Exif\0\0"))
    elif path.suffix == ".heic":
        heif = pytest.importorskip("pillow_heif").from_pillow(image)
        heif.info["thumbnails"] = [8]
        heif.save(path, exif=block, xmp=PREVIEWS, quality=90)
    else:
        buffer = io.BytesIO()
        options: dict[str, Any] = {"exif": block, "xmp": PREVIEWS}
        if path.suffix == ".png":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", PREVIEWS.decode())
            text.add_text("Thumb::Image", BASE64)
            options = {"exif": block, "pnginfo": text}
        image.save(buffer, Image.registered_extensions()[path.suffix], **options)
        data = buffer.getvalue()
        if path.suffix == ".jpg":
            jfif = b"JFXX\0\x10" + THUMBNAIL  # JFIF's extension: a thumbnail coded as JPEG
            more = segment(0xE0, jfif) + segment(0xED, b"Photoshop 3.0\0" + photoshop())
            more += segment(0xE2, b"MPF\0" + THUMBNAIL) + segment(0xFE, THUMBNAIL)
            data = data[:20] + more + data[20:] + THUMBNAIL  # the last is a second picture
        path.write_bytes(data)
    assert THUMBNAIL[100:200] in path.read_bytes()
    assert BASE64[:60].encode() in path.read_bytes()
    return path


def needs(*suffixes: str) -> None:
    if ".heic" in suffixes:
        pytest.importorskip("pillow_heif")


def open_written(path: Path) -> Image.Image:
    if path.suffix == ".heic":
        return pytest.importorskip("pillow_heif").HeifImageFile(path)
    return Image.open(path)


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_no_preview_reaches_the_edited_file(tmp_path: Path, source: str, target: str) -> None:
    needs(source, target)
    photo = images.read(planted(tmp_path / f"source{source}"))
    path = images.write(tmp_path / f"edited{target}", photo)
    data = path.read_bytes()
    for i in range(0, len(THUMBNAIL) - 50, 50):
        assert THUMBNAIL[i : i + 50] not in data
    for i in range(0, len(BASE64) - 60, 30):
        assert BASE64[i : i + 30].encode() not in data
    with open_written(path) as again:
        assert not again.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert getattr(again, "n_frames", 1) == 1
        assert not again.info.get("thumbnails")
    kept = images.read(path)
    assert b"A &amp; B" in kept.xmp
    assert b"kept text" in kept.xmp
    assert b'"Jane Doe"' in kept.xmp  # names of people, at their places in the photo
    assert b'exif:GPSLatitude="59,51.5N"' in kept.xmp
    assert b'tiff:Orientation="6"' not in kept.xmp
    block = Image.Exif()
    block.load(kept.exif)
    assert block[ExifTags.Base.Make] == "Camera Works"
    assert block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.CameraOwnerName] == "A. Nother"
    assert block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("target", SUFFIXES)
def test_place_or_all_is_stripped(tmp_path: Path, target: str) -> None:
    needs(target)
    photo = images.read(planted(tmp_path / "source.jpg"))
    path = images.write(tmp_path / f"placeless{target}", photo, strip="location")
    kept = images.read(path)
    assert b"Uppsala" not in path.read_bytes()
    assert b"GPS" not in kept.xmp
    assert b'"Jane Doe"' in kept.xmp
    block = Image.Exif()
    block.load(kept.exif)
    assert block[ExifTags.Base.Make] == "Camera Works"
    assert not block.get_ifd(ExifTags.IFD.GPSInfo)
    path = images.write(tmp_path / f"bare{target}", photo, strip="all")
    bare = images.read(path)
    assert bare.exif == b""
    assert b"A &amp; B" not in bare.xmp
    assert b"Jane" not in bare.xmp
    assert EDITED.encode() in bare.xmp


@pytest.mark.parametrize(
    "source",
    [
        b"<rdf:RDF",
        b"text </rdf:RDF>",
        packet().replace(b"rdf:about", b"\xff:about"),
        packet()[:-60],
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + packet("&a;"),
        packet("<a>" * 5000 + "</a>" * 5000),
        packet("<dc:x>" + "many words " * 30_000 + "</dc:x>"),
        packet(f"<dc:x>{'some words ' * 6_000}</dc:x>"),
    ],
    ids=["cut", "text", "utf8", "end", "entity", "deep", "huge", "long"],
)
def test_broken_and_long_packets_are_replaced(source: bytes) -> None:
    made = xmp_packet(source, EDITED)
    assert made.count(EDITED.encode()) == 1
    assert len(made) < 1000
    assert xmp_packet(source, None) == b""


def test_a_packet_says_one_source_type_in_any_dialect() -> None:
    text = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    inside = f"<Iptc4xmpExt:DigitalSourceType>{text}</Iptc4xmpExt:DigitalSourceType>"
    other = packet(inside).replace(b"rdf:", b"r:").replace(b":rdf=", b":r=")
    for source in (packet(inside), packet("", f'Iptc4xmpExt:DigitalSourceType="{text}"'), other):
        assert text.encode() in xmp_packet(source, None)
        made = xmp_packet(source, GENERATED)
        assert made.count(b"DigitalSourceType=") == 1
        assert text.encode() not in made
        assert xmp_packet(made, EDITED).count(b"DigitalSourceType=") == 1


# --- what no format can hold ---------------------------------------------------------------------


def png_of_resolution(x: int, y: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    data, body = buffer.getvalue(), b"pHYs" + struct.pack(">IIB", x, y, 1)
    return data[:33] + struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def tiff_of_resolution(numerator: int, denominator: int) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (282, 283):
        tags[tag] = TiffImagePlugin.IFDRational(numerator, denominator)
        tags.tagtype[tag] = 5
    tags[296] = 2
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff_of_resolution(300, 1), (300, 300)),
        (tiff_of_resolution(300, 0), None),
        (tiff_of_resolution(0, 0), None),
        (tiff_of_resolution(2**32 - 1, 1), None),
        (png_of_resolution(11811, 11811), (300, 300)),
        (png_of_resolution(2**32 - 1, 2**32 - 1), None),
        (png_of_resolution(0, 11811), None),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_resolutions_that_mean_nothing_are_left_out(
    tmp_path: Path, data: bytes, expected: tuple[int, int] | None, suffix: str
) -> None:
    (tmp_path / "a").write_bytes(data)
    photo = images.read(tmp_path / "a")
    assert photo.dpi == (expected and pytest.approx(expected, abs=0.1))
    again = images.read(images.write(tmp_path / f"b{suffix}", photo))
    assert again.dpi == (expected and pytest.approx(expected, abs=0.1))


@pytest.mark.parametrize("tag", [ExifTags.Base.UserComment, ExifTags.Base.ImageDescription])
def test_exif_that_a_jpeg_cannot_hold_is_shortened(tmp_path: Path, tag: int) -> None:
    block = Image.Exif()
    block[ExifTags.Base.Make] = "Camera Works"
    words = "many words " * 7000
    if tag == ExifTags.Base.UserComment:
        block[ExifTags.IFD.Exif] = {tag: words.encode(), ExifTags.Base.ExposureTime: 0.01}
    else:
        block[tag] = words
        block[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.01}
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=block)
    photo = images.read(tmp_path / "a.png")
    for suffix, whole in ((".jpg", False), (".png", True), (".webp", True), (".tif", True)):
        kept = images.read(images.write(tmp_path / f"b{suffix}", photo)).exif
        assert (b"many words" in kept) == whole
        again = Image.Exif()
        again.load(kept)
        assert again[ExifTags.Base.Make] == "Camera Works"
        assert float(again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime]) == 0.01


def test_a_profile_that_no_jpeg_can_hold_is_applied(tmp_path: Path) -> None:
    """A file's colour profile may have any size; one of a JPEG 16 MB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    long = struct.pack(">I", 20_000_000) + profile[4:] + bytes(20_000_000 - len(profile))
    Image.fromarray(RGB).save(tmp_path / "a.tif", icc_profile=long)
    photo = images.read(tmp_path / "a.tif", profile="keep")
    assert len(photo.icc or b"") < 10_000
    assert np.abs(photo.rgb.astype(int) - RGB).max() <= 1
    images.write(tmp_path / "b.jpg", photo)
