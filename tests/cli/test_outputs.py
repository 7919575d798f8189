"""No result takes the name of a source, of another result, or of a file that was there before."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from fakes import FakeDetector, call_main, fake_editor, noise_photo, write_directions
from sdic.cli import options
from sdic.cli.outputs import INVERSION_SUFFIX, LONGEST, Outputs, check_targets, unique_names
from sdic.errors import InputError
from sdic.methods import storage

FACES = {"we": 2, "a": 2, "A": 2}  # in the photo of this name; elsewhere one


def run(out, sources, *, suffixes=(".png",), numbered=(), **options):
    """What a verb does with fake work: each face's file holds its source and number."""
    outputs = Outputs(out, sources, suffixes, numbered=numbered, **options)
    written = {}
    for source in sources:
        for index in range(FACES.get(source.stem, 1) if source in numbered else 1):
            for suffix in suffixes:
                target = outputs.target(source, index, suffix)
                out.mkdir(exist_ok=True)
                target.write_text(f"{source.name!a} {index}")
                written[target] = f"{source.name!a} {index}"
    return written


def make(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"the user's {name!a}")
    return [folder / name for name in names]


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("sources", "numbered", "expected"),
    [
        pytest.param(["me.png"], [], ["me.png"], id="one"),
        pytest.param(["me.png"], ["me.png"], ["me_0.png"], id="one face of perhaps several"),
        pytest.param(["me.jpg", "me.png"], [], ["me.png", "me-2.png"], id="one name"),
        pytest.param(["me.jpg", "Me.png"], [], ["me.png", "Me-2.png"], id="but for capitals"),
        pytest.param(["é.jpg", "e\u0301.png"], [], ["é.png", "e\u0301-2.png"], id="one glyph"),
        pytest.param(
            ["me.sdic.safetensors", "me.png"], [], ["me.png", "me-2.png"], id="an inversion"
        ),
        pytest.param(["b.png", "b.jpg", "b-2.jpg"], [], ["b.png", "b-2.png", "b-2-2.png"], id="-2"),
        pytest.param(
            ["a.png", "a_0.png"],
            ["a.png"],
            ["a_0.png", "a_1.png", "a_0-2.png"],
            id="a family comes first",
        ),
        pytest.param(
            ["a_0.png", "a.png"],
            ["a.png"],
            ["a_0.png", "a-2_0.png", "a-2_1.png"],
            id="a family comes second",
        ),
        pytest.param(
            ["a.png", "a_0.png"],
            ["a.png", "a_0.png"],
            ["a_0.png", "a_1.png", "a_0_0.png"],
            id="two families",
        ),
        pytest.param(
            ["a.png", "a_00.png", "a_x.png"],
            ["a.png"],
            ["a_0.png", "a_1.png", "a_00.png", "a_x.png"],
            id="no members",
        ),
        pytest.param(
            ["A.png", "a_0.png"], ["A.png"], ["A_0.png", "A_1.png", "a_0-2.png"], id="capitals"
        ),
    ],
)
def test_every_result_has_a_name_of_its_own(tmp_path, sources, numbered, expected):
    paths = make(tmp_path / "in", *sources)
    chosen = [path for path in paths if path.name in numbered]
    written = run(tmp_path / "out", paths, numbered=chosen)
    assert [path.name for path in written] == expected
    assert texts(tmp_path / "out") == {path.name: text for path, text in written.items()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("sources", "numbered", "more"),
    [
        pytest.param(["me.png"], [], [], id="the photo"),
        pytest.param(["inv/me.sdic.safetensors"], [], ["me.png"], id="the photo of an inversion"),
        pytest.param(["we.jpg", "we_1.png"], ["we.jpg", "we_1.png"], [], id="a face's file"),
        pytest.param(["we.jpg", "linked.png"], ["we.jpg"], [], id="by another name"),
    ],
)
def test_no_source_is_replaced(tmp_path, sources, numbered, more, overwrite):
    (tmp_path / "inv").mkdir()
    paths = make(tmp_path, *[name for name in sources if name != "linked.png"], *more)
    if "linked.png" in sources:
        (tmp_path / "we_0.png").write_text("the user's we_0.png")
        (tmp_path / "linked.png").symlink_to(tmp_path / "we_0.png")
        paths.append(tmp_path / "linked.png")
    before = texts(tmp_path)
    chosen = [path for path in paths if path.name in numbered]
    protected = [tmp_path / name for name in more]
    read = [path for path in paths if path not in protected]
    with pytest.raises(InputError, match="would replace the source"):
        run(tmp_path, read, numbered=chosen, protected=protected, overwrite=overwrite)
    assert texts(tmp_path) == before


def test_a_source_that_is_known_only_later_is_kept(tmp_path):
    (photo,) = make(tmp_path, "me.png")
    outputs = Outputs(tmp_path, [tmp_path / "me.sdic.safetensors"], [".png"], overwrite=True)
    outputs.protect(photo)
    with pytest.raises(InputError, match="would replace the source"):
        outputs.target(tmp_path / "me.sdic.safetensors")


@pytest.mark.parametrize(
    ("names", "numbered", "there", "named"),
    [
        (["me.jpg"], False, ["me.png"], "me.png"),
        (["me.jpg"], False, ["me.json"], "me.json"),
        (["me.jpg"], True, ["me_7.png"], "me_7.png"),
        (["me.jpg", "you.jpg"], False, ["me.png", "you.png"], "me.png already (and 1 more"),
    ],
)
def test_files_that_were_there_are_replaced_only_if_asked(tmp_path, names, numbered, there, named):
    paths = make(tmp_path / "in", *names)
    make(tmp_path / "out", *there)
    options = {"suffixes": (".png", ".json"), "numbered": paths if numbered else ()}
    before = texts(tmp_path / "out")
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", paths, **options)
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert texts(tmp_path / "out") == before
    run(tmp_path / "out", paths, overwrite=True, **options)
    assert run(tmp_path / "new", paths, **options)


@pytest.mark.parametrize("there", [["me.PNG.png"], ["me_1.json"], ["me_01.png"], ["me_x.png"]])
def test_files_that_no_result_replaces_are_no_hindrance(tmp_path, there):
    paths = make(tmp_path / "in", "me.jpg")
    make(tmp_path / "out", *there)
    assert run(tmp_path / "out", paths, numbered=paths)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    paths = make(tmp_path / "in", "me.jpg")
    outputs = Outputs(tmp_path, paths, [".png"])
    make(tmp_path, "me.png")
    with pytest.raises(InputError, match=r"There is a file .*me\.png already"):
        outputs.target(paths[0])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_nothing_but_a_plain_file_is_replaced(tmp_path, kind, overwrite):
    paths = make(tmp_path / "in", "me.jpg")
    target = tmp_path / "me.png"
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    else:
        (tmp_path / "other.png").write_text("of the user")
        target.symlink_to(tmp_path / ("other.png" if kind == "link" else "absent"))
    with pytest.raises(InputError, match=r"Cannot write .*: there is"):
        run(tmp_path, paths, overwrite=overwrite)
    assert kind == "dangling link" or target.exists()


def test_a_folder_below_a_file_is_told_before_the_work(tmp_path):
    paths = make(tmp_path, "me.jpg")
    with pytest.raises(InputError, match="is not a folder"):
        Outputs(paths[0] / "out", paths, [".png"])


@pytest.mark.parametrize(
    "name",
    ["x" * 251, "ü" * 125, "x" * 240, "new\nline\x1b[31m", os.fsdecode(b"not-utf8-\xff"), " ", ""],
)
def test_odd_names_are_written(tmp_path, name):
    (path,) = paths = make(tmp_path / "in", f"{name}.jpg" if name else INVERSION_SUFFIX)
    options = {"suffixes": (INVERSION_SUFFIX, ".png"), "numbered": paths}
    written = run(tmp_path / "out", paths, **options)
    assert {path.name for path in written} == set(texts(tmp_path / "out"))
    assert all(len(os.fsencode(path.name)) <= LONGEST for path in written)
    assert path.is_file()


def test_long_names_that_begin_alike_differ():
    paths = [Path("x" * 250 + f"{number}.jpg") for number in range(12)]
    assert len(set(unique_names(paths, limit=200).values())) == 12


def test_results_that_nobody_reserved_are_an_error_of_the_program(tmp_path):
    outputs = Outputs(tmp_path, [Path("me.jpg")], [".png"])
    with pytest.raises(ValueError, match="No place is kept"):
        outputs.target(Path("me.jpg"), 1)
    with pytest.raises(ValueError, match="No place is kept"):
        outputs.target(Path("me.jpg"), suffix=".json")


def test_one_file_by_its_name(tmp_path):
    source, there = make(tmp_path, "a.pt", "b.pt")
    check_targets([tmp_path / "new" / "c.pt"], [source])
    with pytest.raises(InputError, match="would replace the source"):
        check_targets([tmp_path / "." / "a.pt"], [source], overwrite=True)
    with pytest.raises(InputError, match="--overwrite"):
        check_targets([there], [source])
    check_targets([there], [source], overwrite=True)


def test_the_suffix_of_inversions_is_theirs():
    assert INVERSION_SUFFIX == storage.SUFFIX


# The same by the commands, with two faces in every photo but a_0.png and me.*

SHORT = "me.png", "me.jpg", "a_0.png", "we_1.png"


class SomeFaces(FakeDetector):
    def __call__(self, rgb):
        return super().__call__(rgb)[: 2 if rgb.shape[1] == 220 else 1]


@pytest.fixture
def sdic(monkeypatch, capsys, tmp_path):
    """The command in a folder with photos and a file of directions."""
    detector = SomeFaces((45, 60, 20), (160, 60, 16))
    editor = fake_editor(detector)
    monkeypatch.setattr(options, "make_editor", lambda *_: editor)
    monkeypatch.setattr("sdic.recognition.detection.load_detector", lambda name: detector)
    monkeypatch.chdir(tmp_path)
    write_directions(tmp_path / "d.safetensors")
    for number, name in enumerate(("me.png", "me.jpg", "a.png", "a_0.png", "we.jpg", "we_1.png")):
        width = 120 if name in SHORT else 220
        Image.fromarray(noise_photo(120, width, number)).save(name, quality=95)

    def call(command):
        words = [word.replace("smile", "d.safetensors:smile") for word in command.split()]
        return call_main(monkeypatch, capsys, *words)

    return call


def contents(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "commands",
    [
        ["invert me.png --out inv", "edit inv/me.sdic.safetensors -e smile=2 --crop --out ."],
        ["edit we.jpg we_1.png -e smile=2 --face all --crop --out ."],
        ["edit we.jpg we_1.png -e smile=2 --face all --crop --out . --overwrite"],
        ["edit me.png -e smile=2 --out ."],
        ["edit me.png -e smile=2 --out . --overwrite"],
        ["edit me.jpg -e smile=2 --out ."],
        ["invert me.jpg --out ."],
        ["invert me.png --out ."],
        ["invert we.jpg we_1.png --face all --out . --overwrite"],
        ["animate me.jpg -e smile=0:1 --out there.gif"],
        ["demo --photo me.jpg --out me.png"],
        ["demo --photo me.png --out me.png --overwrite"],
        ["align me.jpg --out ."],
        ["align we.jpg we_1.png --face all --out . --overwrite"],
    ],
    ids=lambda commands: commands[-1],
)
def test_no_command_replaces_what_is_there(commands, sdic, tmp_path):
    Path("there.gif").write_bytes(b"the user's")
    *first, last = commands
    for command in first:
        assert sdic(command)[0] == 0
    before = contents(tmp_path)
    code, output, error = sdic(last)
    assert (code, output) == (1, "")
    assert "would replace the source" in error or "already" in error
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("edit me.jpg -e smile=2 --out out", "me.png"),
        ("edit me.jpg -e smile=2 --crop --face all --out out", "me_0.png"),
        ("invert me.jpg --out out", "me.sdic.safetensors"),
        ("animate me.jpg -e smile=0:1 --frames 2 --out out/a.gif", "a.gif"),
        ("align me.jpg --out out", "me.json"),
        ("align me.jpg --face all --out out", "me_0.png"),
    ],
)
def test_commands_replace_files_if_they_are_asked(command, there, sdic):
    Path("out").mkdir()
    path = Path("out", there)
    path.write_bytes(b"the user's")
    code, _, error = sdic(command)
    assert code == 1
    assert f"There is a file {path} already" in error
    assert contents("out") == {path: b"the user's"}
    assert sdic(f"{command} --overwrite")[0] == 0
    assert path.read_bytes() != b"the user's"
    path.unlink()
    path.symlink_to(Path("me.png").absolute())
    before = contents(".")
    assert sdic(f"{command} --overwrite")[0] == 1
    assert contents(".") == before


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("edit a.png a_0.png -e smile=2 --face all --crop --out out --json", 3),
        ("edit a_0.png a.png -e smile=2 --face all --crop --out out --json", 3),
        ("edit a.png a_0.png -e smile=2 --face all --out out --json", 2),
        ("edit me.jpg me.png -e smile=2 --crop --out out --json", 2),
        ("invert a.png a_0.png --face all --out out --json", 3),
        ("align a.png a_0.png me.png me.jpg --face all --out out --json", 5),
    ],
)
def test_every_face_has_its_file_and_what_is_reported_was_written(command, count, sdic):
    code, output, _ = sdic(command)
    assert code == 0
    named = set()
    for line in map(json.loads, output.splitlines()):
        value = line.get("edited") or line.get("inversions") or [c["crop"] for c in line["crops"]]
        named |= {value} if isinstance(value, str) else set(value)
    written = {str(path) for path in Path("out").iterdir()}
    assert len(named) == count
    assert named <= written
    beside = {str(Path(name).with_suffix(".json")) for name in named}
    beside |= {name.replace(".sdic.safetensors", ".png") for name in named}
    assert written <= named | beside


@pytest.mark.parametrize(
    "command",
    [
        "edit {} -e smile=2 --out out",
        "invert {} --out out",
        "align {} --out out",
    ],
)
@pytest.mark.parametrize("stem", ["x" * 250, os.fsdecode(b"\xff\x1b[31m"), "x" * 240])
def test_commands_write_odd_names(command, stem, sdic):
    Path("me.jpg").rename(f"{stem}.jpg")
    code, output, error = sdic(command.replace("{}", f"{stem}.jpg"))
    assert (code, error) == (0, "")
    assert "\x1b" not in output
    assert list(Path("out").iterdir())


def test_a_format_is_not_a_path(sdic, tmp_path):
    before = contents(tmp_path)
    code, output, error = sdic("edit me.jpg -e smile=2 --suffix ../x.png --out out")
    assert (code, output) == (1, "")
    assert error.startswith("error: ")
    assert contents(tmp_path) == before
