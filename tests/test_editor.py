"""The editor: photo to edited photo, with a tiny generator and a method without weights."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fakes import FakeDetector, fake_editor, noise_photo, write_directions
from rounding import close_pixels
from sdic import images
from sdic.editing.direction import Direction, Edit
from sdic.editor import Editor, load
from sdic.errors import InputError, NoFaceError
from sdic.images import Photo
from sdic.methods import load_inversion, save_inversion
from sdic.methods.optimisation import Optimisation
from sdic.session import PHOTO, PLACE, find_photo, place_of


@pytest.fixture(scope="module")
def editor():
    return fake_editor()


@pytest.fixture(scope="module")
def photo():
    return Photo(noise_photo())


@pytest.fixture(scope="module")
def inversion(editor, photo):
    return editor.invert(photo)


@pytest.fixture(scope="module")
def direction():
    return Direction("turn", torch.linspace(-1, 1, 512), "mobile")


def inside(inversion):
    """Which pixels of the photo [H,W] touch the crop, with one pixel to spare."""
    place = place_of(inversion)
    width, height = place.photo_size
    y, x = np.mgrid[:height, :width] + 0.5
    unit = np.linalg.inv(place.axes) @ np.stack(
        (x - place.quad[0, 0], y - place.quad[0, 1])
    ).reshape(2, -1)
    spare = 1 / place.side
    return ((unit > -spare) & (unit < 1 + spare)).all(0).reshape(height, width)


def test_strength_0_leaves_the_photo_bit_for_bit(editor, photo, inversion, direction):
    for edit in (None, Edit(()), Edit.of(direction, 0.0)):
        pasted = editor.paste(inversion, photo, edit, detail=True)
        assert np.array_equal(pasted.rgb, photo.rgb)


def test_an_edit_changes_the_crop_and_nothing_outside(editor, photo, inversion, direction):
    edit = Edit.of(direction, 2.0)
    for detail in (True, False):
        changed = (editor.paste(inversion, photo, edit, detail=detail).rgb != photo.rgb).any(2)
        within = inside(inversion)
        assert 0.05 < within.mean() < 0.8
        assert changed[within].mean() > 0.2
        assert not changed[~within].any()


def test_without_detail_the_generated_face_itself_is_pasted(editor, direction):
    photo = Photo(noise_photo(256, 256))
    inversion = editor.invert(photo, aligned=True)
    edit = Edit.of(direction, 1.0)
    # An aligned photo has no border to fade at, and the tiny generator makes 256 pixels too.
    pasted = editor.paste(inversion, photo, edit, detail=False)
    assert np.array_equal(pasted.rgb, editor.render(inversion, edit))


def test_render(editor, inversion, direction):
    plain = editor.render(inversion)
    assert plain.shape == (256, 256, 3)
    assert plain.dtype == np.uint8
    assert np.array_equal(plain, images.to_uint8(inversion.reconstruction)[0])
    assert editor.render(inversion, size=64).shape == (64, 64, 3)
    assert not np.array_equal(editor.render(inversion, Edit.of(direction, 1.0)), plain)


def test_inversion_remembers_photo_and_place_through_its_file(editor, tmp_path, direction):
    path = tmp_path / "photo.png"
    Image.fromarray(noise_photo(seed=3)).save(path)
    inversion = editor.invert(path)
    assert inversion.metadata[PHOTO] == "photo.png"
    save_inversion(inversion, tmp_path / "photo.sdic.safetensors")
    loaded = load_inversion(tmp_path / "photo.sdic.safetensors")
    assert np.array_equal(place_of(loaded).quad, place_of(inversion).quad)
    edit = Edit.of(direction, 1.0)
    photo = images.read(path)
    close_pixels(editor.paste(loaded, photo, edit).rgb, editor.paste(inversion, photo, edit).rgb)


def test_edit_in_one_call(tmp_path, photo):
    editor = fake_editor()
    smile = f"{write_directions(tmp_path / 'd.safetensors')}:smile"
    expected = editor.paste(editor.invert(photo), photo, editor.make_edit({smile: 2.0}))
    edited = editor.edit(photo, {smile: 2.0})
    assert np.array_equal(edited.rgb, expected.rgb)
    assert np.array_equal(editor.edit(photo, {smile: 0.0}).rgb, photo.rgb)


def test_all_faces_are_edited_when_asked_for(tmp_path):
    editor = fake_editor(FakeDetector((45, 60, 16), (160, 60, 20)))
    photo = Photo(noise_photo(120, 220))
    smile = f"{write_directions(tmp_path / 'd.safetensors')}:smile"

    def changed(face):
        differs = (editor.edit(photo, {smile: 3.0}, face=face).rgb != photo.rgb).any((0, 2))
        return bool(differs[30:60].any()), bool(differs[145:175].any())

    assert changed("largest") == changed(0) == (False, True)
    assert changed(1) == (True, False)
    assert changed("all") == (True, True)


def test_names_of_directions(editor, tmp_path):
    file = write_directions(tmp_path / "d.safetensors")
    edit = editor.make_edit({f"{file}:smile": 2.0, f"{file}:age": -1.0})
    assert [(d.name, strength) for d, strength in edit.steps] == [("smile", 2.0), ("age", -1.0)]
    for value in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="give a number"):
            editor.make_edit({f"{file}:smile": value})
    with pytest.raises(InputError, match="There is no direction 'frown'"):
        editor.make_edit({f"{file}:frown": 1.0})


def test_an_inversion_of_another_generator_is_refused(editor, photo, inversion):
    foreign = replace(inversion, generator=replace(inversion.generator, family="stylegan2"))
    for use in (editor.render, lambda it: editor.paste(it, photo)):
        with pytest.raises(InputError, match="made with the generator 'stylegan2'"):
            use(foreign)


def test_an_inversion_without_a_place_is_refused(editor, photo, inversion):
    without = replace(inversion, metadata={})
    assert editor.render(without).shape == (256, 256, 3)
    with pytest.raises(InputError, match="does not say where"):
        editor.paste(without, photo)
    for damaged in ("{", "[]", '{"quad": 1}', '{"quad": [[0,0],[0,1],[1,1],[9,9]]}'):
        with pytest.raises(InputError, match="place"):
            editor.paste(replace(inversion, metadata={PLACE: damaged}), photo)


def test_another_photo_than_was_inverted_is_refused(editor, inversion):
    for other in (noise_photo(100, 100), noise_photo(seed=1)):
        with pytest.raises(InputError, match="another photo than was inverted"):
            editor.paste(inversion, Photo(other))


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "me.png\0", "\ud800", "x" * 5000, "./", "pipe"),
        *("other.png", "../photos/other.png", "/etc/passwd", "../other.png", "..\\other.png"),
    ],
)
def test_a_name_in_an_inversion_finds_no_other_photo(tmp_path, inversion, name):
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in (folder, tmp_path):
        Image.fromarray(noise_photo(seed=1)).save(place / "other.png")
    os.mkfifo(folder / "pipe")
    for metadata in (inversion.metadata, {PLACE: inversion.metadata[PLACE]}):
        changed = replace(inversion, metadata=metadata | {PHOTO: name})
        with pytest.raises(InputError, match="photo"):
            find_photo(changed, [folder])
    assert find_photo(changed, [tmp_path / "other.png"]).path == tmp_path / "other.png"


def test_no_face_and_a_face_that_is_not_there(photo):
    with pytest.raises(NoFaceError, match="No face was found in the photo of 160x120 pixels"):
        fake_editor(FakeDetector()).invert(photo)
    with pytest.raises(NoFaceError, match="Face 1 was asked for, but the photo has 1 face "):
        fake_editor().invert(photo, 1)


def test_refinement_brings_the_inversion_closer(monkeypatch):
    # Without the perceptual term, whose network would be fetched.
    monkeypatch.setattr("sdic.methods.refiner", Optimisation)
    generator = fake_editor().inverter.generator
    face = generator(generator.broadcast(generator.sample(1, seed=9)))
    photo = Photo(images.to_uint8(face)[0])
    plain = fake_editor().invert(photo, aligned=True)
    steps = []
    refined = fake_editor(refine=10).invert(
        photo, aligned=True, progress=lambda *a: steps.append(a)
    )
    crop = images.to_tensor(photo.rgb)

    def error(inversion):
        return float((inversion.reconstruction - crop).square().mean())

    assert error(refined) < error(plain)
    assert refined.metadata == {**plain.metadata, "refined_steps": "10"}
    assert [done for done, _, _ in steps][-10:] == list(range(1, 11))


def test_wrong_settings():
    with pytest.raises(InputError, match="refinement steps is -1"):
        Editor(fake_editor().inverter, refine=-1)
    for options, match in (
        ({"device": "tpu"}, "The device 'tpu' is not there"),
        ({"method": "magic"}, "There is no method 'magic'"),
        ({"generator": "biggan"}, "There is no generator 'biggan'"),
    ):
        with pytest.raises(InputError, match=match):
            load(**options)
