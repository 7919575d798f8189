"""A batch: what it prints, and that nothing that befalls one file costs the others."""

import json
from pathlib import Path

import pytest
import typer

from sdic.cli import terminal
from sdic.cli.batch import run_batch
from sdic.errors import InputError

FILES = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]


def failing(error):
    def work(path):
        if path == FILES[1]:
            raise error
        return {"out": f"{path.stem}.png"}

    return work


def run(capsys, work, code, files=FILES, **options):
    if code:
        with pytest.raises(typer.Exit) as caught:
            run_batch(files, work, **options)
        assert caught.value.exit_code == code
    else:
        run_batch(files, work, **options)
    return capsys.readouterr()


def test_without_failures_results_are_all_that_is_printed(capsys):
    said = run(capsys, lambda path: {"psnr": 31.23456, "out": [f"{path.stem}.png"]}, 0, FILES[:2])
    assert said.out == "a.jpg: psnr 31.23, out a.png\nb.jpg: psnr 31.23, out b.png\n"
    assert said.err == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("No face."), "b.jpg: No face."),
        (InputError("b.jpg is [bold]empty[/] :smile:."), "  b.jpg is [bold]empty[/] :smile:."),
        (RuntimeError("CUDA out of memory"), "b.jpg: There is not enough memory"),
        (MemoryError(), "b.jpg: There is not enough memory"),
        (RecursionError("maximum depth"), "b.jpg: RecursionError: maximum depth. This is a defect"),
        (
            FileNotFoundError(2, "No such file or directory", "b.jpg"),
            "b.jpg cannot be used (No such file",
        ),
        (OverflowError("too large\nto write"), "b.jpg: OverflowError: too large. This is a defect"),
        (
            UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"),
            "b.jpg: UnicodeEncodeError: 'utf-8' codec",
        ),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_it_goes_on_after_any_error(error, words, as_json, capsys, monkeypatch):
    monkeypatch.delenv(terminal.DEBUG, raising=False)
    said = run(capsys, failing(error), 1, as_json=as_json)
    head, sentence = said.err.splitlines()
    assert head == "1 of 3 files failed:"
    assert words in sentence
    lines = said.out.splitlines()
    if as_json:
        assert [json.loads(line)["file"] for line in lines] == ["a.jpg", "b.jpg", "c.jpg"]
        assert json.loads(lines[1])["error"] in sentence
    else:
        assert lines == ["a.jpg: out a.png", "c.jpg: out c.png"]


def test_debug_shows_where_it_arose(capsys, monkeypatch):
    monkeypatch.setenv(terminal.DEBUG, "1")
    said = run(capsys, failing(RuntimeError("odd")), 1)
    assert "Traceback" in said.err
    assert "in work" in said.err
    assert said.out == "a.jpg: out a.png\nc.jpg: out c.png\n"


def test_the_user_ends_it(capsys):
    said = run(capsys, failing(KeyboardInterrupt()), 130)
    assert said.out == "a.jpg: out a.png\n"
    assert said.err == "Interrupted after 1 of 3 files.\n"


def test_failures_before_the_end_are_told(capsys):
    def work(path):
        raise {"a": InputError("No face."), "b": KeyboardInterrupt()}[path.stem]

    said = run(capsys, work, 130)
    assert said.err.splitlines()[1:] == ["1 of 3 files failed:", "  a.jpg: No face."]


def test_names_cannot_steer_the_terminal(capsys):
    path = Path("a\x1b[2J\n\udcff")
    said = run(capsys, lambda path: {"out": f"{path.stem}.png"}, 0, [path])
    assert said.out == r"a\x1b[2J\n\udcff: out a\x1b[2J\n\udcff.png" + "\n"
    said = run(capsys, lambda path: {"out": f"{path.stem}.png"}, 0, [path], as_json=True)
    assert json.loads(said.out)["file"] == str(path)
