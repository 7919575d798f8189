"""Sessions: what a face of a photo keeps, and what the shortest way to a file writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fakes import FakeDetector, fake_editor, noise_photo, write_directions
from sdic import images
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.images import Photo
from sdic.images.metadata import EDITED
from sdic.session import FaceSession

DIRECTION = Direction("turn", torch.linspace(-1, 1, 512), "mobile")
EDIT = Edit.of(DIRECTION, 2.0)


@pytest.fixture(scope="module")
def two():
    """An editor that finds two faces, and a photo of them."""
    return fake_editor(FakeDetector((45, 60, 16), (160, 60, 20))), Photo(noise_photo(120, 220))


def test_what_the_api_gives_back_is_saved_with_mark_metadata_and_transparency(tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "An Artist"
    picture = Image.fromarray(noise_photo())
    picture.putalpha(Image.fromarray(noise_photo()[..., 0]))
    picture.save(tmp_path / "me.png", exif=exif)
    smile = f"{write_directions(tmp_path / 'd.safetensors')}:smile"
    fake_editor().edit(tmp_path / "me.png", {smile: 2.0}).save(tmp_path / "out.png")
    saved, before = images.read(tmp_path / "out.png"), images.read(tmp_path / "me.png")
    assert np.array_equal(saved.alpha, before.alpha)
    assert EDITED.encode() in saved.xmp
    assert Image.open(tmp_path / "out.png").getexif()[0x013B] == "An Artist"
    assert not np.array_equal(saved.rgb, before.rgb)


def test_all_faces_are_opened_and_edited_each_in_its_way(two):
    editor, photo = two
    session = editor.open(photo, "all")
    assert len(session) == 2
    both = session.paste(EDIT).rgb
    one_by_one = session[1].paste(EDIT, onto=session[0].paste(EDIT)).rgb
    assert np.array_equal(both, one_by_one)
    only = session.paste({1: EDIT}).rgb
    assert np.array_equal(only, session[1].paste(EDIT).rgb)
    assert np.array_equal(session.paste({}).rgb, photo.rgb)
    with pytest.raises(InputError, match="no face 2; the session has 2"):
        session.paste({2: EDIT})


def test_one_inversion_is_of_one_face(two):
    editor, photo = two
    with pytest.raises(InputError, match="An inversion is of one face; `open` inverts all"):
        editor.invert(photo, "all")
    inversion = editor.invert(photo)
    three = replace(
        inversion,
        latents=inversion.latents.repeat(3, 1, 1),
        base_latents=inversion.base_latents.repeat(3, 1, 1),
        features=inversion.features.repeat(3, 1, 1, 1),
    )
    with pytest.raises(InputError, match="holds 3 faces"):
        editor.render(three)


def test_the_unedited_render_comes_with_the_inversion_and_is_made_once(two, monkeypatch):
    editor, photo = two
    session = editor.open(photo)
    made, synthesize = [], editor.inverter.synthesize
    monkeypatch.setattr(editor.inverter, "synthesize", lambda *a: made.append(a) or synthesize(*a))
    session.paste(EDIT)
    session.paste(Edit.of(DIRECTION, -1.0))
    assert len(made) == 2  # one for each edit
    session[0].render(size=64)
    session[0].render(size=64)
    assert len(made) == 3


def test_without_a_photo_only_the_face_can_be_shown(two):
    editor, photo = two
    session = editor.reopen(editor.invert(photo))
    assert session[0].render(EDIT).shape == (256, 256, 3)
    for act in (lambda: session.paste(EDIT), lambda: session[0].crop()):
        with pytest.raises(InputError, match="The session has no photo"):
            act()
    nowhere = FaceSession(editor.inverter, editor.invert(photo), photo)
    with pytest.raises(InputError, match="does not say where"):
        nowhere.paste(EDIT)
