"""`sdic animate`, with a tiny editor in place of the trained one."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from fakes import call_main, fake_editor, noise_photo, write_directions
from sdic import images
from sdic.cli.animate import Way, parse_ways, render_frames, shrink, there_and_back
from sdic.cli.video import write_animation
from sdic.editing.direction import Direction
from sdic.editing.library import save_directions
from sdic.errors import InputError
from sdic.images import Photo
from sdic.methods.storage import save_inversion


@pytest.fixture(scope="module")
def editor():
    return fake_editor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(noise_photo()).save(folder / "me.png")
    write_directions(folder / "d.safetensors")
    return folder


@pytest.fixture(scope="module")
def smile(folder):
    return f"{folder / 'd.safetensors'}:smile"


@pytest.fixture
def sdic(monkeypatch, capsys, editor):
    monkeypatch.setattr("sdic.cli.options.make_editor", lambda *_: editor)
    return lambda *arguments: call_main(monkeypatch, capsys, "animate", *arguments)


def moving(count=3, height=21, width=32):
    """Frames of one grey each, darker to lighter, so that lossy formats keep them apart."""
    return [np.full((height, width, 3), 60 * k + 40, np.uint8) for k in range(count)]


def frames_of(path):
    with Image.open(path) as file:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]


def test_ways_with_ends_units_and_fixed_strengths(tmp_path):
    path = tmp_path / "d.safetensors"
    notes = {"unit": "years", "per_strength": "5"}
    save_directions([Direction("age", torch.ones(512), "mobile", notes=notes)], path)
    ways = parse_ways([f"{path}:age=-10y:+20y", "yaw=1", "smile=-1.5:2"])
    assert ways == [Way(f"{path}:age", -2, 4), Way("yaw", 1, 1), Way("smile", -1.5, 2)]
    assert [ways[2].at(share) for share in (0, 0.5, 1)] == [-1.5, 0.25, 2]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["smile"], "expected NAME=STRENGTH"),
        (["smile=a:b"], "expected NAME=STRENGTH"),
        (["smile=1:2:3"], "expected NAME=FROM:TO"),
        (["smile=0:inf"], "expected NAME=FROM:TO"),
        (["smile=0:2", "smile=1"], "given twice"),
        (["smile=2", "yaw=1:1"], "Nothing would move"),
    ],
)
def test_what_is_no_way(texts, reason):
    with pytest.raises(InputError, match=reason):
        parse_ways(texts)


def test_there_and_back_repeats_no_frame():
    assert there_and_back([1, 2, 3, 4]) == [1, 2, 3, 4, 3, 2]
    assert there_and_back([1, 2]) == [1, 2]


def test_shrink_keeps_the_shape_of_the_picture():
    assert shrink(noise_photo(120, 160), 80).shape == (60, 80, 3)
    small = noise_photo(12, 16)
    np.testing.assert_array_equal(shrink(small, 80), small)


def test_frames_are_the_edits_pasted_and_need_one_unedited_render(editor, smile, monkeypatch):
    photo = Photo(noise_photo())
    session = editor.open(photo)[0]
    changes = [editor.make_edit({smile: strength}) for strength in (-2.0, 2.0)]
    expected = [editor.paste(session.inversion, photo, change).rgb for change in changes]
    made, synthesize = [], editor.inverter.synthesize
    monkeypatch.setattr(editor.inverter, "synthesize", lambda *a: made.append(a) or synthesize(*a))
    found = list(render_frames(session, changes))
    np.testing.assert_array_equal(found, expected)
    assert len(made) == 2  # the unedited one came with the inversion
    crops = list(render_frames(session, changes, crop=True))
    np.testing.assert_array_equal(crops[1], editor.render(session.inversion, changes[1]))
    assert np.abs(crops[0].astype(int) - crops[1]).mean() > 0.1


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_pillow_formats_hold_the_frames_the_time_and_the_note(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_animation(path, moving(), rate=10)
    for found, frame in zip(frames_of(path), moving(), strict=True):
        np.testing.assert_allclose(found, frame, atol=3)
    with Image.open(path) as file:
        assert file.info["loop"] == 0
        file.seek(1)
        file.load()
        assert file.info["duration"] == 100
    assert b"compositeWithTrainedAlgorithmicMedia" in path.read_bytes()


def test_mp4_holds_the_frames_with_even_sides(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    write_animation(path, moving(height=65, width=96), rate=10)
    with av.open(io.BytesIO(path.read_bytes())) as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
        assert "compositeWithTrained" in container.metadata["comment"]
    assert [frame.shape for frame in found] == [(64, 96, 3)] * 3
    for frame, expected in zip(found, moving(), strict=True):
        assert abs(float(frame.mean()) - expected.mean()) < 6


def test_mp4_without_its_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'sdic\[video\]'"):
        write_animation(tmp_path / "a.mp4", moving(), rate=10)
    assert not list(tmp_path.iterdir())


def test_command_animates_a_photo(sdic, folder, smile, tmp_path):
    out = tmp_path / "a.webp"
    code, output, _ = sdic(
        folder / "me.png", "-e", f"{smile}=-3:3", "--frames", 3, "--size", 80, "--out", out
    )
    assert (code, output.strip()) == (0, str(out))
    found = frames_of(out)
    assert [frame.shape for frame in found] == [(60, 80, 3)] * 4  # there, and one back
    assert np.abs(found[0].astype(int) - found[2]).mean() > 0.05


def test_command_animates_the_crop_of_an_inversion(sdic, editor, folder, smile, tmp_path):
    source, out = tmp_path / "me.sdic.safetensors", tmp_path / "a.gif"
    save_inversion(editor.invert(images.read(folder / "me.png")), source)
    arguments = ["-e", f"{smile}=0:3", "--frames", 2, "--size", 64, "--crop", "--no-back"]
    code, _, _ = sdic(source, *arguments, "--out", out)
    assert code == 0
    assert [frame.shape for frame in frames_of(out)] == [(64, 64, 3)] * 2


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("a.avi", [], ".gif, .webp, .mp4"),
        ("a.gif", ["--face", "all"], "one face"),
        ("a.gif", ["-e", "yaw=1"], "no direction 'yaw'"),
    ],
)
def test_command_refuses(sdic, monkeypatch, folder, smile, tmp_path, name, arguments, reason):
    monkeypatch.setattr("sdic.editing.library.load_library", lambda _: {})
    out = tmp_path / name
    code, _, error = sdic(folder / "me.png", "-e", f"{smile}=0:1", *arguments, "--out", out)
    assert code == 1
    assert reason in error
    assert not out.exists()
