from __future__ import annotations

import errno
import io
import os
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from sdic import files, images
from sdic.errors import InputError
from sdic.images import reading
from sdic.images.metadata import EDITED, GENERATED

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height: int = 24, width: int = 40) -> images.Pixels:
    """A smooth picture that JPEG keeps well, with no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 20 + 200 * x / width, 30 + 180 * y / height
    blue = 40 + 150 * (x + y) / (width + height)
    return np.rint(np.stack((red, green, blue), axis=-1)).astype(np.uint8)


def difference(a: images.Pixels, b: images.Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


def wide_gamut_profile() -> bytes:
    """A matrix profile whose red and green primaries are swapped sRGB ones: easy to tell."""
    data = bytearray(ICC)
    entries = {}
    for index in range(struct.unpack_from(">I", data, 128)[0]):
        name, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * index)
        entries[name] = (offset, size)
    (red, size), (green, _) = entries[b"rXYZ"], entries[b"gXYZ"]
    first, second = bytes(data[red : red + size]), bytes(data[green : green + size])
    data[red : red + size], data[green : green + size] = second, first
    return bytes(data)


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_gives_upright_pixels(tmp_path: Path, orientation: int) -> None:
    upright = picture()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(images.read(path).rgb, upright)


def test_alpha_is_turned_with_the_picture(tmp_path: Path) -> None:
    alpha = np.arange(24 * 40, dtype=np.uint32).reshape(24, 40).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "turned.png"
    stored = np.rot90(np.dstack((picture(), alpha)), 1)
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(images.read(path).alpha, alpha)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes_become_eight_bit_rgb(tmp_path: Path, mode: str) -> None:
    grey = picture()[..., 1]
    if mode == "I;16":
        stored, expected = Image.fromarray(grey.astype(np.uint16) * 257), np.stack([grey] * 3, -1)
    else:
        stored = Image.fromarray(picture()).convert(mode)
        expected = np.asarray(stored.convert("RGB"))
    path = tmp_path / "mode.png"
    stored.save(path)
    photo = images.read(path)
    assert photo.rgb.dtype == np.uint8
    np.testing.assert_array_equal(photo.rgb, expected)
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


def test_palette_transparency_becomes_alpha(tmp_path: Path) -> None:
    stored = Image.fromarray(picture()).quantize(8)
    path = tmp_path / "palette.png"
    stored.save(path, transparency=3)
    alpha = images.read(path).alpha
    np.testing.assert_array_equal(alpha, np.where(np.asarray(stored) == 3, 0, 255))


def test_float_tiff(tmp_path: Path) -> None:
    grey = picture()[..., 0]
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(images.read(tmp_path / "float.tif").rgb[..., 2], grey)
    Image.fromarray(grey.astype(np.float32) * 7).save(tmp_path / "unknown.tif")
    with pytest.raises(InputError, match="grey values outside 0 to 1"):
        images.read(tmp_path / "unknown.tif")


def test_cmyk_jpeg_and_tiff(tmp_path: Path) -> None:
    cmyk = Image.fromarray(picture()).convert("CMYK")
    for name in ("c.jpg", "c.tif"):
        cmyk.save(tmp_path / name, **({"quality": 98} if name == "c.jpg" else {}))
        assert difference(images.read(tmp_path / name).rgb, picture()) <= 4


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".heic"])
def test_formats_are_told_from_their_content(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    images.write(tmp_path / f"a{suffix}", picture(), quality=100)
    (tmp_path / f"a{suffix}").rename(tmp_path / "renamed.png")
    photo = images.read(tmp_path / "renamed.png")
    assert photo.format in ("JPEG", "WEBP", "TIFF", "HEIF")
    assert difference(photo.rgb, picture()) <= (0 if suffix in (".webp", ".tif") else 4)


def test_profile_is_converted_or_kept(tmp_path: Path) -> None:
    path, profile = tmp_path / "profile.png", wide_gamut_profile()
    Image.fromarray(picture()).save(path, icc_profile=profile)
    converted, kept = images.read(path), images.read(path, profile="keep")
    swapped = picture()[..., [1, 0, 2]]
    assert difference(converted.rgb, swapped) <= 2
    assert converted.icc
    assert converted.icc != profile
    np.testing.assert_array_equal(kept.rgb, picture())
    assert kept.icc == profile


def test_srgb_profile_changes_nothing_and_broken_profile_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "srgb.png", icc_profile=ICC)
    photo = images.read(tmp_path / "srgb.png")
    np.testing.assert_array_equal(photo.rgb, picture())
    assert photo.icc == ICC
    Image.fromarray(picture()).save(tmp_path / "broken.png", icc_profile=b"no profile")
    photo = images.read(tmp_path / "broken.png")
    np.testing.assert_array_equal(photo.rgb, picture())
    assert photo.icc is None


# --- what cannot be read ------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_header(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "data", [png_header(30_000, 30_000), webp_header(16_383, 16_383)], ids=["png", "webp"]
)
def test_bomb_is_stopped_before_decoding(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"pixels; at most 100 megapixels are read"):
        images.read(path)


def test_size_limit_can_be_set(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", picture())
    assert images.read(tmp_path / "a.png", max_pixels=24 * 40).size == (40, 24)
    with pytest.raises(InputError, match="40x24"):
        images.read(tmp_path / "a.png", max_pixels=24 * 40 - 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"Dear Sir or Madam, here is a photo.", "its content is text"),
        (b"GIF89a" + b"\0" * 40, "its content is a GIF"),
        (b"\x00\x00\x00\x18ftypavif" + b"\0" * 40, "its content is an AVIF"),
        (b"\x07\xfe\x00\x01" * 20, "of an unknown kind"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 60, "damaged or cut-off JPEG"),
        (b"II*\x00" + b"\xff" * 60, "damaged or cut-off TIFF"),
        (b"RIFF\0\0\0\0WEBP" + b"\0" * 60, "damaged or cut-off WEBP"),
    ],
    ids=["empty", "text", "gif", "avif", "noise", "jpeg", "tiff", "webp"],
)
def test_foreign_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        images.read(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_cut_off_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = images.write(tmp_path / f"whole{suffix}", noise).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match="damaged or cut-off"):
        images.read(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no picture"):
        images.read(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is a folder"):
        images.read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders and devices are of POSIX")
def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    """A pipe would wait for a writer for ever, a device act or never end."""
    os.mkfifo(tmp_path / "pipe.jpg")
    images.write(tmp_path / "a.png", picture())
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"pipe\.jpg is no plain file"):
        images.read(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="no plain file; expected a picture"):
        images.read("/dev/zero")
    np.testing.assert_array_equal(images.read(tmp_path / "link.png").rgb, picture())
    assert tmp_path / "pipe.jpg" not in images.list_images([tmp_path])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31m.jpg", r"a\x1b[31m.jpg"),
        ("a\n.jpg", r"a\n.jpg"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("a\udcff.jpg", r"a\udcff.jpg"),
        ("große Ferien 夏.jpg", "große Ferien 夏.jpg"),
    ],
)
def test_names_in_messages_are_safe_for_a_terminal(tmp_path: Path, name: str, shown: str) -> None:
    for act in (
        images.read,
        lambda path: images.list_images([path]),
        lambda path: images.write(path.with_suffix(".txt"), picture()),
        lambda path: images.write(path / "a.jpg", np.zeros((1, 65_536, 3), np.uint8)),
    ):
        with pytest.raises(InputError) as caught:
            act(tmp_path / name)
        assert shown.rpartition(".")[0] in str(caught.value)
        assert str(caught.value).isprintable()
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("a name that this file system refuses")
    with pytest.raises(InputError, match="has no JPEG") as caught:
        images.list_images([tmp_path / name])
    assert shown in str(caught.value)
    images.write(tmp_path / name / name.replace(".exe", ".jpg"), picture())
    [path] = images.list_images([tmp_path / name])
    assert images.read(path).size == (40, 24)


def test_a_grey_picture_of_16_bits_takes_little_memory(tmp_path: Path) -> None:
    """A small file can hold many pixels: 194 KB made 2.5 GB of a hundred million."""
    side = 4096
    Image.fromarray(np.zeros((side, side), np.uint16)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < side * side / 300
    tracemalloc.start()
    images.read(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / side**2 < 10  # bytes a pixel, of which the result has three


def test_strips_meet_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.dstack((picture(), picture()[..., 0]))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(rgba).save(tmp_path / "a.png", exif=exif, icc_profile=wide_gamut_profile())
    whole = images.read(tmp_path / "a.png")
    monkeypatch.setattr(reading, "_STRIP", 7 * 24)  # rows of 24 pixels, 40 of them
    photo = images.read(tmp_path / "a.png")
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha, np.rot90(rgba[..., 3], -1))
    np.testing.assert_array_equal(photo.rgb, whole.rgb)
    assert photo.icc == whole.icc


def test_heic_without_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + b"\0" * 40)
    with pytest.raises(InputError, match=r"sdic\[heic\]"):
        images.read(tmp_path / "a.heic")
    with pytest.raises(InputError, match=r"sdic\[heic\]"):
        images.write(tmp_path / "b.heic", picture())


# --- writing ------------------------------------------------------------------------------------


def source_photo(tmp_path: Path) -> images.Photo:
    """A turned JPEG of a camera, with place, thumbnail, profile, resolution and XMP."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Camera Works"
    exif[ExifTags.Base.Artist] = "A. Nother"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: 0.01,
        ExifTags.Base.MakerNote: b"preview of the face",
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
        b'22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6" '
        b'e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    path = tmp_path / "source.jpg"
    Image.fromarray(picture()).save(
        path, exif=exif, xmp=xmp, icc_profile=ICC, dpi=(300, 300), quality=95
    )
    return images.read(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic"])
@pytest.mark.parametrize("generated", [False, True])
def test_metadata_travel_and_tell_the_edit(tmp_path: Path, suffix: str, generated: bool) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    photo = source_photo(tmp_path)
    assert photo.size == (24, 40)
    path = images.write(tmp_path / f"out{suffix}", photo.rgb, generated=generated, like=photo)
    again = images.read(path)
    assert again.size == photo.size
    assert again.icc == ICC
    assert again.xmp.count(b"DigitalSourceType") == 1
    assert f'DigitalSourceType="{GENERATED if generated else EDITED}"'.encode() in again.xmp
    assert b'tiff:Orientation="1"' in again.xmp
    exif = Image.Exif()
    exif.load(again.exif)
    assert exif[ExifTags.Base.Make] == "Camera Works"
    assert exif[ExifTags.Base.Artist] == "A. Nother"
    assert float(exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime]) == 0.01
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert b"preview of the face" not in path.read_bytes()
    if suffix in (".jpg", ".png", ".tif"):
        assert again.dpi == pytest.approx((300, 300), abs=0.1)


def test_unedited_file_does_not_claim_an_edit(tmp_path: Path) -> None:
    plain = images.read(images.write(tmp_path / "a.png", picture(), edited=False))
    assert plain.xmp == b""
    photo = source_photo(tmp_path)
    kept = images.read(images.write(tmp_path / "b.jpg", photo, edited=False))
    assert b"digitalCapture" in kept.xmp


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_and_pixels_survive_lossless_formats(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((24, 40), 255, dtype=np.uint8)
    alpha[:, :20] = 90
    path = images.write(tmp_path / f"a{suffix}", images.Photo(picture(), alpha), quality=100)
    again = images.read(path)
    np.testing.assert_array_equal(again.rgb, picture())
    np.testing.assert_array_equal(again.alpha, alpha)


def test_jpeg_lays_transparency_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((24, 40), dtype=np.uint8)
    path = images.write(tmp_path / "a.jpg", images.Photo(picture(), alpha))
    assert images.read(path).rgb.min() >= 254


def test_written_file_has_the_usual_permissions_and_no_neighbours(tmp_path: Path) -> None:
    path = images.write(tmp_path / "new" / "a.png", picture())
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = images.write(tmp_path / "a.png", picture())
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        images.write(path, picture(30, 30))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions of folders are checked on POSIX")
def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root may write everywhere: let the system call refuse

        def refuse(self: Path, mode: str) -> io.BytesIO:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="may not be written to"):
        images.write(folder / "a.png", picture())
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.gif", {}, "has to end in one of .jpg"),
        ("a", {}, "has to end in one of .jpg"),
        ("a.jpg", {"quality": 0}, "expected 1 to 100"),
    ],
)
def test_wrong_targets(tmp_path: Path, name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        images.write(tmp_path / name, picture(), **options)


def test_target_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        images.write(tmp_path / "file" / "a.png", picture())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="a folder with this name"):
        images.write(tmp_path / "folder.png", picture())
    with pytest.raises(InputError, match=r"WEBP can hold \(16,383\)"):
        images.write(tmp_path / "wide.webp", np.zeros((1, 16_384, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="expected uint8"):
        images.write(tmp_path / "a.png", picture().astype(np.float32))


# --- folders and tensors ------------------------------------------------------------------------


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.jpg", "notes.txt", "c.heic"):
        (tmp_path / name).touch()
    names = [path.name for path in images.list_images([tmp_path])]
    assert names == ["a.jpg", "b.PNG", "c.heic"]
    listed = images.list_images([tmp_path / "c.heic", tmp_path, tmp_path / "notes.txt"])
    assert [path.name for path in listed] == ["c.heic", "a.jpg", "b.PNG", "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no JPEG"):
        images.list_images([tmp_path / "empty"])
    with pytest.raises(InputError, match="There is no file or folder"):
        images.list_images([tmp_path / "none"])
    for empty in ("", "  "):
        with pytest.raises(InputError, match="A path is empty"):
            images.list_images([tmp_path / "a.jpg", empty])
    with pytest.raises(InputError, match="cannot be looked at: File name too long"):
        images.list_images([tmp_path / ("a" * 300)])
    with pytest.raises(InputError, match="There cannot be a picture"):
        images.read("a\0b.jpg")


def test_all_levels_survive_the_tensor() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = images.to_tensor(levels)
    assert tensor.shape == (1, 3, 16, 16)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_array_equal(images.to_uint8(tensor)[0], levels)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_no_picture(number: float) -> None:
    values = torch.zeros(1, 3, 4, 4)
    values[0, 1, 2, 3] = number
    with pytest.raises(InputError, match="not finite"):
        images.to_uint8(values)


def test_to_uint8_rounds_and_clamps() -> None:
    values = torch.tensor([-2.0, 0.49 / 127.5 - 1, 0.51 / 127.5 - 1, 7.0]).view(1, 1, 2, 2)
    np.testing.assert_array_equal(
        images.to_uint8(values.expand(1, 3, 2, 2))[0, ..., 0], [[0, 0], [1, 255]]
    )
    with pytest.raises(InputError, match=r"\[N,3,H,W\]"):
        images.to_uint8(torch.zeros(3, 4, 4))


def test_resize_area_is_the_mean_of_the_area() -> None:
    tensor = torch.rand(2, 3, 12, 8)
    expected = tensor.view(2, 3, 4, 3, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(images.resize_area(tensor, 4), expected)
    halves = tensor.view(2, 3, 6, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(images.resize_area(tensor, (6, 4)), halves)


def test_resize_antialiased_agrees_with_pillow() -> None:
    rgb = picture(60, 60)
    resized = images.to_uint8(images.resize_antialiased(images.to_tensor(rgb), 25))[0]
    reference = Image.fromarray(rgb).resize((25, 25), Image.Resampling.BILINEAR)
    assert difference(resized, np.asarray(reference)) <= 1


def test_unreadable_file(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("only an ordinary POSIX user can be refused")
    path = images.write(tmp_path / "a.png", picture())
    path.chmod(0)
    with pytest.raises(InputError, match="may not be read"):
        images.read(path)
