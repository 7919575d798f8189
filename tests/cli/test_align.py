"""`sdic align`, with a detector that finds two faces in a bright photo and none in a dark one."""

import json

import numpy as np
import pytest
from PIL import Image

from fakes import FakeDetector, call_main, noise_photo
from sdic import alignment, images
from sdic.alignment import CropPlace


class TwoFaces(FakeDetector):
    def __call__(self, rgb):
        return super().__call__(rgb) if rgb.mean() > 50 else []


@pytest.fixture
def align(monkeypatch, capsys):
    detector = TwoFaces((45, 60, 16), (160, 60, 20))
    monkeypatch.setattr("sdic.recognition.detection.load_detector", lambda name: detector)
    return lambda *arguments: call_main(monkeypatch, capsys, "align", "--size", 64, *arguments)


def bright(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise_photo(120, 220)).save(path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_goes_on_after_broken_files(align, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    bright(photos / "a.png")
    (photos / "b.jpg").write_text("not a picture")
    Image.new("RGB", (40, 40)).save(photos / "c.png")
    bright(photos / "d.png")
    code, output, error = align(photos, "--out", out, "--face", "all", "--json")
    assert code == 1
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in sorted(photos.iterdir())]
    assert ["error" in line for line in lines] == [False, True, True, False]
    assert error.startswith("2 of 4 files failed:")
    assert "content is text" in error
    assert "No face was found" in error
    assert names(out) == [f"{n}_{i}.{e}" for n in "ad" for i in (0, 1) for e in ("json", "png")]
    assert [crop["crop"] for crop in lines[0]["crops"]] == [str(out / f"a_{i}.png") for i in (0, 1)]
    place = CropPlace.from_dict(json.loads((out / "a_1.json").read_text()))
    cut = images.read(out / "a_1.png")
    photo = images.read(photos / "a.png")
    np.testing.assert_array_equal(cut.rgb, alignment.crop(photo.rgb, place, 64))
    assert b"DigitalSourceType" not in cut.xmp


def test_replaces_no_photo_and_no_file_unasked(align, tmp_path):
    path = bright(tmp_path / "in" / "a.png")
    before = path.read_bytes()
    for arguments in ((), ("--overwrite",), ("--face", "all", tmp_path / "in" / "a_1.png")):
        bright(tmp_path / "in" / "a_1.png")
        code, output, error = align(path, "--out", tmp_path / "in", *arguments)
        assert (code, output) == (1, "")
        assert "would replace the source" in error
        assert path.read_bytes() == before
    assert names(tmp_path / "in") == ["a.png", "a_1.png"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text("the user's")
    code, _, error = align(path, "--out", tmp_path / "out")
    assert code == 1
    assert "a.json already; choose another place, or replace it with --overwrite" in error
    assert names(tmp_path / "out") == ["a.json"]
    assert align(path, "--out", tmp_path / "out", "--overwrite")[0] == 0
    assert "quad" in json.loads((tmp_path / "out" / "a.json").read_text())


def test_the_same_again_into_its_own_folder_of_faces(align, tmp_path):
    """Three faces of a.png and a_0.png keep three names, whichever order they come in."""
    first, second = bright(tmp_path / "a.png"), bright(tmp_path / "a_0.png")
    for number, photos in enumerate(((first, second), (second, first))):
        out = tmp_path / str(number)
        assert align(*photos, "--face", "all", "--out", out)[0] == 0
        expected = ["a_0.png", "a_0_0.png", "a_0_1.png", "a_1.png"]
        assert [name for name in names(out) if name.endswith("png")] == expected
