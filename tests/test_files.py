"""The one writer of the package: whole or not at all, never through a link, never over a device."""

import os
import time
from pathlib import Path

import pytest
import torch

from sdic import files
from sdic.errors import InputError, WeightsError


def test_a_file_is_written_with_its_folders_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    files.write_whole(path, b"old")
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    files.write_whole(path, b"old")

    def half() -> None:
        with files.whole(path) as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_no_link_is_written_through(tmp_path):
    target, link = tmp_path / "photo", tmp_path / "link"
    target.write_bytes(b"mine")
    link.symlink_to(target)
    with pytest.raises(InputError, match="there is a link with this name"):
        files.write_whole(link, b"other")
    assert target.read_bytes() == b"mine"
    assert link.is_symlink()


@pytest.mark.parametrize(("make", "found"), [(os.mkdir, "a folder"), (os.mkfifo, "no plain file")])
def test_nothing_but_a_plain_file_is_replaced(tmp_path, make, found):
    make(tmp_path / "place")
    with pytest.raises(InputError, match=f"there is {found} with this name"):
        files.write_whole(tmp_path / "place", b"data")
    assert (tmp_path / "place").exists()


def test_the_longest_name_that_the_file_system_takes_can_be_written(tmp_path):
    files.write_whole(tmp_path / ("n" * 255), b"data")
    with pytest.raises(InputError, match="the name is too long"):
        files.write_whole(tmp_path / ("n" * 256), b"data")


def test_the_error_is_of_the_kind_that_was_asked_for_and_gives_the_advice(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="is not a folder; set SDIC_CACHE"):
        files.write_whole(tmp_path / "file" / "x", b"", WeightsError, "set SDIC_CACHE")
    with pytest.raises(WeightsError, match="is not a folder"):
        files.make_folder(tmp_path / "file" / "x", WeightsError)


def test_what_a_kill_left_behind_is_removed_when_it_is_old(tmp_path):
    old, young = tmp_path / ".sdic-0.part", tmp_path / ".sdic-1.part"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    past = time.time() - 2 * files.LEFTOVER_AGE
    os.utime(old, (past, past))
    files.write_whole(tmp_path / "file", b"data")
    assert sorted(os.listdir(tmp_path)) == [".sdic-1.part", "file"]
    os.utime(tmp_path / ".sdic-1.part", (past, past))
    files.make_folder(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_is_known_before_the_work(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("new", "file", "folder/new"):
        files.check_writable(tmp_path / name)
    for name in ("file/below", "link", "folder", "n" * 256, "a\0b", "/", ""):
        with pytest.raises(WeightsError, match="Cannot write"):
            files.check_writable(tmp_path / name if name else Path(), WeightsError)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_tensors_come_back_whatever_memory_they_shared(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    kept = {"all": base, "part": base[1:], "turned": base.t()}
    files.save_tensors(tmp_path / "file", kept, {"format": "test"})
    read, metadata = files.read_tensors(tmp_path / "file")
    assert metadata == files.read_metadata(tmp_path / "file") == {"format": "test"}
    assert all(torch.equal(read[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no file of things at"),
        (os.mkdir, "is a folder; expected a file of things"),
        (os.mkfifo, "no plain file; expected a file of things"),
        (lambda path: path.symlink_to(path), "There cannot be a file of things"),
    ],
)
def test_nothing_but_a_plain_file_is_read(tmp_path, make, sentence):
    make(tmp_path / "place")
    with pytest.raises(WeightsError, match=sentence):
        files.check_readable(tmp_path / "place", "file of things", WeightsError)
    with pytest.raises(InputError, match="check the path"):
        files.check_readable(tmp_path / "a\0b", "file")


def test_what_may_not_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    files.check_readable(tmp_path / "file", "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="may not be read; change its permissions"):
        files.check_readable(tmp_path / "file", "file")
