"""What verbs make of the options and arguments that they share."""

import os
from pathlib import Path

import pytest

from sdic.cli import options
from sdic.errors import InputError


def test_faces():
    assert [options.parse_face(text) for text in ("largest", "all", "3")] == ["largest", "all", 3]
    for text in ("-1", "left", "", "²", "9" * 20):
        with pytest.raises(InputError, match="expected largest, all, or an index"):
            options.parse_face(text)


def test_what_is_stripped():
    assert [options.parse_strip(text) for text in (None, "location", "all")] == [
        None,
        "location",
        "all",
    ]
    with pytest.raises(InputError, match="expected location or all"):
        options.parse_strip("gps")


@pytest.mark.parametrize(("text", "suffix"), [("png", ".png"), (".JPG", ".jpg"), ("tif", ".tif")])
def test_formats_of_pictures(text, suffix):
    assert options.picture_suffix(text) == suffix


@pytest.mark.parametrize("text", ["", "gif", "../x.png", "/png", "png ", "..png"])
def test_what_is_no_format_of_pictures(text):
    with pytest.raises(InputError, match="no format that pictures are written in"):
        options.picture_suffix(text)


def test_sources_are_photos_and_inversions(tmp_path):
    photos = [tmp_path / "in" / name for name in ("a.png", "b.jpg")]
    inversion = tmp_path / "a.sdic.safetensors"
    (tmp_path / "in").mkdir()
    for path in (*photos, inversion, tmp_path / "in" / "note.txt"):
        path.write_bytes(b"")
    found = options.list_sources([inversion, tmp_path / "in", inversion, photos[0]])
    assert found == (photos, [inversion])
    assert options.list_sources([inversion]) == ([], [inversion])
    with pytest.raises(InputError, match="There is no file or folder"):
        options.list_sources([inversion, tmp_path / "absent.png"])


def test_files_that_can_be_read_are_regular(tmp_path):
    options.check_regular(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    options.check_regular(tmp_path / "file")
    options.check_regular(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (
        ("pipe", "is a pipe"),
        (".", "is a folder"),
        ("/dev/null", "is a device"),
        ("loop", "may not be read"),
        ("a\0b", "may not be read"),
    ):
        with pytest.raises(InputError, match=words):
            options.check_regular(tmp_path / Path(name))
