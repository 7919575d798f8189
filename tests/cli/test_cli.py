"""`sdic invert`, `edit`, `demo` and `info`, with a tiny editor in place of the trained one."""

import json

import numpy as np
import pytest
from PIL import Image

from fakes import FakeDetector, call_main, fake_editor, noise_photo, write_directions
from rounding import close_pixels
from sdic import images, methods
from sdic.cli import demo
from sdic.cli.progress import DescentProgress
from sdic.editing import library
from sdic.methods import load_inversion


@pytest.fixture(scope="module")
def editor():
    return fake_editor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo me.png and a file of directions d.safetensors."""
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
    return lambda *arguments: call_main(monkeypatch, capsys, *arguments)


def refused(result, *words):
    """Exit code 1 and one sentence on standard error that has these words."""
    code, _, error = result
    assert code == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def pixels(path):
    return np.asarray(Image.open(path))


def test_info_as_json(sdic, tmp_path, monkeypatch):
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    code, output, _ = sdic("info", "--json")
    facts = json.loads(output)
    assert code == 0
    assert facts["cache"] == str(tmp_path)
    assert list(facts["methods"]) == methods.names()
    assert facts["generators"] == ["mobile", "stylegan2"]
    assert facts["packages"]["torch"][0].isdigit()


def test_info_as_text(sdic):
    code, output, _ = sdic("info")
    assert code == 0
    for word in ("sdic: ", "cache: ", "optimisation-w+: ", "generators: mobile, stylegan2"):
        assert word in output


def test_invert_writes_the_inversion_and_a_picture(sdic, folder, tmp_path, editor):
    code, output, _ = sdic("invert", folder / "me.png", "--out", tmp_path / "new", "--json")
    line = json.loads(output)
    target = tmp_path / "new" / "me.sdic.safetensors"
    assert code == 0
    assert line["file"] == str(folder / "me.png")
    assert line["inversions"] == [str(target)]
    assert 0 < line["psnr_db"][0] < 20
    loaded = load_inversion(target)
    close_pixels(pixels(tmp_path / "new" / "me.png"), editor.render(loaded))


def test_invert_all_faces(sdic, tmp_path, monkeypatch):
    editor = fake_editor(FakeDetector((45, 60, 16), (160, 60, 20)))
    monkeypatch.setattr("sdic.cli.options.make_editor", lambda *_: editor)
    Image.fromarray(noise_photo(120, 220)).save(tmp_path / "we.png")
    code, _, _ = sdic("invert", tmp_path / "we.png", "--face", "all", "--out", tmp_path / "out")
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"we_{i}.{suffix}" for i in (0, 1) for suffix in ("png", "sdic.safetensors")]


def test_edit_of_a_photo_and_of_its_inversion_are_the_same(sdic, folder, smile, tmp_path, editor):
    sdic("invert", folder / "me.png", "--out", tmp_path)
    inversion = tmp_path / "me.sdic.safetensors"
    for source, out in ((folder / "me.png", "a"), (inversion, "b")):
        arguments = ("-e", f"{smile}=2", "--out", tmp_path / out, "--photos", folder)
        code, _, _ = sdic("edit", source, *arguments)
        assert code == 0
    photo = images.read(folder / "me.png")
    edit = editor.make_edit({smile: 2.0})
    expected = editor.paste(editor.invert(photo), photo, edit).rgb
    assert np.array_equal(pixels(tmp_path / "a" / "me.png"), expected)
    close_pixels(pixels(tmp_path / "b" / "me.png"), expected)
    assert not np.array_equal(expected, photo.rgb)


def test_edit_writes_the_crop_alone(sdic, folder, smile, tmp_path, editor):
    arguments = ("-e", f"{smile}=2", "--crop", "--suffix", "webp", "--out", tmp_path)
    code, output, _ = sdic("edit", folder / "me.png", *arguments, "--json")
    assert code == 0
    assert json.loads(output)["edited"] == str(tmp_path / "me.webp")
    assert pixels(tmp_path / "me.webp").shape == (256, 256, 3)


def test_a_photo_and_an_inversion_of_one_name_make_two_files(sdic, folder, smile, tmp_path):
    sdic("invert", folder / "me.png", "--out", tmp_path)
    sources = (folder / "me.png", tmp_path / "me.sdic.safetensors", "--photos", folder)
    code, _, _ = sdic("edit", *sources, "-e", f"{smile}=2", "--out", tmp_path / "out")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["me-2.png", "me.png"]


def test_the_photo_itself_is_never_replaced(sdic, folder, smile, tmp_path):
    before = (folder / "me.png").read_bytes()
    sdic("invert", folder / "me.png", "--out", tmp_path)
    for source in (folder / "me.png", tmp_path / "me.sdic.safetensors"):
        arguments = ("-e", f"{smile}=2", "--out", folder, "--photos", folder, "--overwrite")
        code, _, error = sdic("edit", source, *arguments)
        assert code == 1
        assert "would replace the source" in error
    assert (folder / "me.png").read_bytes() == before
    code, _, error = sdic("invert", folder / "me.png", "--out", folder, "--overwrite")
    assert (code, "would replace the source" in error) == (1, True)


@pytest.mark.parametrize("text", ["smile", "smile=", "=2", "smile=much"])
def test_an_edit_that_is_none(text, sdic, folder, tmp_path):
    result = sdic("edit", folder / "me.png", "-e", text, "--out", tmp_path)
    refused(result, f"The edit is '{text}'; expected NAME=STRENGTH")


def test_an_edit_by_its_own_option_is_that_of_the_library(sdic, folder, tmp_path, editor):
    code, _, _ = sdic("edit", folder / "me.png", "--smile", "0.5", "--out", tmp_path, "--crop")
    assert code == 0
    strength = 0.5 * library.get("smile").strength_range[1]
    photo = images.read(folder / "me.png")
    expected = editor.render(editor.invert(photo), editor.make_edit({"smile": strength}))
    assert np.array_equal(pixels(tmp_path / "me.png"), expected)


def test_other_wrong_arguments_of_edit(sdic, folder, smile, tmp_path):
    def edit(source, *texts):
        edits = [word for text in texts for word in ("-e", text)]
        return sdic("edit", source, *edits, "--out", tmp_path)

    photo = folder / "me.png"
    refused(edit(photo, "smile=1", "smile=2"), "The direction 'smile' is given twice")
    refused(edit(photo, f"{smile}=nan"), "give a number")
    refused(edit(photo, "frown=1"), "There is no direction 'frown'")
    refused(edit(photo, f"{folder / 'no.safetensors'}:smile=1"), "There is no file")
    refused(edit(folder / "absent.jpg", f"{smile}=1"), "There is no file or folder")
    refused(sdic("edit", photo, "-e", f"{smile}=1", "--face", "left", "--out", tmp_path), "'left'")
    refused(sdic("invert", photo, "--face", "-1", "--out", tmp_path), "The face is '-1'")
    assert not list(tmp_path.iterdir())


def test_files_that_fail_in_the_batch(sdic, folder, smile, tmp_path):
    (tmp_path / "broken.sdic.safetensors").write_bytes(b"no tensors")
    arguments = ("-e", f"{smile}=1", "--out", tmp_path / "out")
    code, _, error = sdic(
        "edit", tmp_path / "broken.sdic.safetensors", folder / "me.png", *arguments
    )
    assert code == 1
    assert error.startswith("1 of 2 files failed:")
    assert (tmp_path / "out" / "me.png").is_file()
    result = sdic("edit", folder / "me.png", *arguments, "--suffix", "gif", "--json")
    refused(result, "'gif' is no format that pictures are written in")


def test_the_photo_of_an_inversion_is_looked_for_by_its_name_and_known_by_its_pixels(
    sdic, smile, tmp_path, monkeypatch
):
    first, second, folder = tmp_path / "first.png", tmp_path / "second.png", tmp_path / "in"
    Image.fromarray(noise_photo()).save(first)
    sdic("invert", first, "--out", folder)
    inversion = folder / "first.sdic.safetensors"
    (folder / "first.png").unlink()
    assert str(tmp_path) not in str(load_inversion(inversion).metadata)

    def edit(*more):
        arguments = (inversion, "-e", f"{smile}=2", "--out", tmp_path / "out", "--overwrite", *more)
        return sdic("edit", *arguments)

    assert edit("--photos", tmp_path)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert edit()[0] == 0
    first.rename(second)
    code, _, error = edit()
    assert code == 1
    assert f"'first.png', is not in {folder}" in error
    assert edit("--photo", second)[0] == 0
    assert pixels(tmp_path / "out" / "first.png").shape == (120, 160, 3)
    assert edit("--crop")[0] == 0
    assert pixels(tmp_path / "out" / "first.png").shape == (256, 256, 3)
    Image.fromarray(noise_photo(seed=7)).save(folder / "first.png")
    code, _, error = edit()
    assert (code, "is another photo than was inverted" in error) == (1, True)


def test_an_inversion_is_edited_by_its_own_method(monkeypatch, capsys, smile, tmp_path):
    made, generator = [], fake_editor().inverter.generator

    def make(_, name):
        made.append(name)
        editor = fake_editor()
        editor.inverter.generator = generator
        editor.inverter.name = name
        return editor

    monkeypatch.setattr("sdic.cli.options.make_editor", make)
    Image.fromarray(noise_photo()).save(tmp_path / "me.png")
    inversions = {}
    for name in ("optimisation-f", "sdic"):
        arguments = (tmp_path / "me.png", "--method", name, "--out", tmp_path / name)
        assert call_main(monkeypatch, capsys, "invert", *arguments)[0] == 0
        inversions[name] = tmp_path / name / "me.sdic.safetensors"
    made.clear()
    arguments = ("-e", f"{smile}=1", "--photo", tmp_path / "me.png", "--out", tmp_path / "out")
    assert call_main(monkeypatch, capsys, "edit", *inversions.values(), *arguments)[0] == 0
    assert made == ["optimisation-f", "sdic"]
    eq6 = (*arguments, "--overwrite", "--method", "sdic-eq6")
    code, _, error = call_main(monkeypatch, capsys, "edit", *inversions.values(), *eq6)
    assert code == 1
    assert "1 of 2 files failed" in error
    assert "was made by the method 'optimisation-f'" in error


def test_what_is_to_be_left_out_is_left_out(sdic, smile, tmp_path):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}  # GPS
    exif[0x013B] = "An Artist"
    Image.fromarray(noise_photo()).save(tmp_path / "me.jpg", exif=exif, quality=100, subsampling=0)
    for text, *left in ((None, True, True), ("location", False, True), ("all", False, False)):
        out = tmp_path / str(text)
        more = () if text is None else ("--strip", text)
        arguments = ("-e", f"{smile}=1", "--suffix", "jpg", "--out", out, *more)
        assert sdic("edit", tmp_path / "me.jpg", *arguments)[0] == 0
        found = Image.open(out / "me.jpg").getexif()
        assert [bool(found.get_ifd(0x8825)), 0x013B in found] == left
    refused(sdic("edit", tmp_path / "me.jpg", *arguments, "--strip", "face"), "location or all")


def test_two_inputs_never_write_one_name(sdic, smile, tmp_path, monkeypatch):
    editor = fake_editor(FakeDetector((45, 60, 16), (160, 60, 20)))
    monkeypatch.setattr("sdic.cli.options.make_editor", lambda *_: editor)
    for seed, name in enumerate(("we.png", "we_1.png")):
        Image.fromarray(noise_photo(120, 220, seed)).save(tmp_path / name)
    before = (tmp_path / "we_1.png").read_bytes()
    arguments = ("-e", f"{smile}=2", "--face", "all", "--crop", "--json", "--out")
    photos = (tmp_path / "we.png", tmp_path / "we_1.png")
    code, output, error = sdic("edit", *photos, *arguments, tmp_path)
    assert code == 1
    assert "would replace the source" in error
    code, output, _ = sdic("edit", *photos, *arguments, tmp_path / "out")
    written = [path for line in output.splitlines() for path in json.loads(line)["edited"]]
    assert code == 0
    assert len(set(written)) == 4
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(written)
    assert (tmp_path / "we_1.png").read_bytes() == before


def test_the_photo_of_an_inversion_outlives_its_edited_crop(sdic, smile, tmp_path):
    Image.fromarray(noise_photo()).save(tmp_path / "me.png")
    before = (tmp_path / "me.png").read_bytes()
    sdic("invert", tmp_path / "me.png", "--out", tmp_path / "inv")
    inversion = tmp_path / "inv" / "me.sdic.safetensors"
    arguments = ("-e", f"{smile}=2", "--crop", "--out", tmp_path, "--photos", tmp_path)
    for more in ((), ("--overwrite",)):
        assert sdic("edit", inversion, *arguments, *more)[0] == 1
    assert (tmp_path / "me.png").read_bytes() == before


def test_demo(sdic, folder, smile, tmp_path, monkeypatch):
    age = smile.replace(":smile", ":age")
    monkeypatch.setattr(demo, "EDITS", ((smile, -0.9), (age, 0.5)))
    monkeypatch.setattr(demo, "TILE", 64)
    out = tmp_path / "sheet.png"
    code, _, _ = sdic("demo", "--photo", folder / "me.png", "--out", out)
    assert code == 0
    sheet = pixels(out)
    assert sheet.shape == (2 * (64 + demo.CAPTION), 4 * 64, 3)
    # The first row has four pictures, the second two.
    lower = sheet[64 + demo.CAPTION : -demo.CAPTION]
    assert (lower[:, 128:] == 255).all()
    assert lower[:, :128].std() > 5


def test_release_is_for_compensation_alone(sdic, folder, smile, tmp_path):
    arguments = ("-e", f"{smile}=1", "--release", "0.3", "--out", tmp_path)
    code, _, error = sdic("edit", folder / "me.png", *arguments)
    assert (code, "--release is for SDIC's compensation" in error) == (1, True)


def test_wrong_options_of_the_editor(monkeypatch, capsys, folder, tmp_path):
    for option, value, words in (
        ("--device", "tpu", "The device 'tpu' is not there"),
        ("--method", "magic", "There is no method 'magic'"),
        ("--generator", "biggan", "There is no generator 'biggan'"),
    ):
        arguments = ("invert", folder / "me.png", "--out", tmp_path / "out", option, value)
        if option == "--generator":
            arguments = (*arguments, "--method", "pti")
        refused(call_main(monkeypatch, capsys, *arguments), words)


def test_progress_says_nothing_without_a_terminal(capsys):
    with DescentProgress() as progress:
        progress(1, 10, 0.5)
    assert capsys.readouterr() == ("", "")
