"""The application: what it imports and when, and what it says where something goes wrong."""

import inspect
import os
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import sdic
from fakes import call_main
from sdic.cli import options, terminal
from sdic.cli.app import VERBS, load_verb
from sdic.errors import InputError
from sdic.generators import create

HEAVY = {"benchmark", "weights"}  # all that they do needs PyTorch


def run(*arguments, **options):
    """`sdic ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "sdic.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, **options)


def loads_torch(code):
    code = f"import sys\n{code}\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.returncode == 1


@pytest.mark.parametrize("name", VERBS)
def test_summaries_are_those_of_the_verbs(name):
    module = import_module(f"sdic.cli.{name}")
    group = getattr(module, f"{name}_app", None)
    text = inspect.getdoc(getattr(module, name)) if group is None else group.info.help
    assert " ".join(text.split("\n\n")[0].split()) == VERBS[name]
    assert load_verb(name).name == name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["directions", "list"],
        ["directions", "list", "--json"],
        ["directions", "fit", "--help"],
        *([name, "--help"] for name in VERBS if name not in HEAVY),
    ],
    ids=" ".join,
)
def test_help_and_lists_load_no_torch(arguments):
    call = f"sys.argv[1:] = {arguments}\ntry:\n main()\nexcept SystemExit as e: assert not e.code"
    assert not loads_torch(f"from sdic.cli import main\n{call}")


def test_the_package_loads_torch_when_it_is_needed():
    assert not loads_torch("import sdic\nsdic.InputError, dir(sdic), sdic.__version__")
    assert loads_torch("import sdic\nsdic.load, sdic.weights.names()")


def test_every_public_name_is_there():
    for name in sdic.__all__:
        assert getattr(sdic, name).__name__ == ("names" if name == "list_methods" else name)
    assert set(sdic.__all__) <= set(dir(sdic))
    with pytest.raises(AttributeError, match="no attribute 'edits'"):
        sdic.edits  # noqa: B018


def test_defaults_are_those_of_the_package():
    assert inspect.signature(create).parameters["name"].default == options.DEFAULT_GENERATOR


def test_an_engine_becomes_options_and_an_editor(monkeypatch, tmp_path):
    seen = []

    @options.expand
    def verb(photo: str, out: str = "o", *, engine: options.Engine, last: bool = False) -> None:
        seen.append((photo, out, engine, last))

    monkeypatch.setattr("sdic.editor.load", lambda *args, **named: seen.append((args, named)))
    assert [*inspect.signature(verb).parameters][:4] == ["photo", "out", "method", "refine"]
    file = tmp_path / "weights.pt"
    file.write_bytes(b"")
    engine = options.Engine("pti", 3, "stylegan2", file, "dlib", "cpu", "eager")
    verb(photo="p", out="o", last=True, **vars(engine))
    assert seen.pop() == ("p", "o", engine, True)
    options.make_editor(engine, "pti")
    named = {"checkpoint": file, "backend": "eager", "device": "cpu", "detector": "dlib"}
    assert seen == [(("pti", "stylegan2"), {**named, "refine": 3})]


def test_a_verb_that_is_mistyped(monkeypatch, capsys):
    code, _, error = call_main(monkeypatch, capsys, "directons", "list")
    assert code == 2
    assert "No such command 'directons'. Did you mean 'directions'?" in " ".join(error.split())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("No face was found."), "No face was found."),
        (RuntimeError("a bad shape\nand more"), "RuntimeError: a bad shape. This is a defect"),
        (AssertionError(), "AssertionError. This is a defect of the program; run again with"),
        (RecursionError("too deep"), "RecursionError: too deep. This is a defect"),
        (InputError(f"There is no {'x' * 100_000}; choose another."), "x; choose another."),
        (MemoryError(), "There is not enough memory"),
        (RuntimeError("CUDA out of memory. Tried"), "There is not enough memory"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b cannot be used (Permission denie"),
    ],
)
def test_every_error_is_one_sentence(error, words, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr("sdic.cli.info._facts", fail)
    monkeypatch.delenv(terminal.DEBUG, raising=False)
    code, output, said = call_main(monkeypatch, capsys, "info")
    assert (code, output, said.count("\n")) == (1, "", 1)
    assert said.startswith("error: ")
    assert words in said
    assert len(said) < 3000


def test_warnings_of_libraries_are_not_for_the_user(monkeypatch, capsys):
    def warn():
        warnings.warn("of a library", stacklevel=1)
        return {}

    monkeypatch.setattr("sdic.cli.info._facts", warn)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        call_main(monkeypatch, capsys, "info", "--json")
    assert not seen


def test_debug_shows_where_an_error_arose():
    for arguments, variable in ((["--debug"], ""), ([], "1")):
        done = run(*arguments, "generate", "--seeds", "x", "--out", "o", env=environment(variable))
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert b"in parse_seeds" in done.stderr
    assert b"Traceback" not in run("generate", "--seeds", "x", "--out", "o").stderr


def environment(debug=""):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), terminal.DEBUG: debug}


def test_an_empty_argument_is_not_the_working_folder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments in (["edit", "", "-e", "smile=1", "--out", "o"], ["align", "a.png", "--out", ""]):
        code, _, error = call_main(monkeypatch, capsys, *arguments)
        assert code == 1
        assert "An argument is empty" in error
    assert not list(tmp_path.iterdir())


def test_nobody_reads_on():
    command = [sys.executable, "-m", "sdic.cli", "directions", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_names_that_the_terminal_cannot_show():
    name = os.fsdecode(b"f\xc3\xbcr-\xff\x1b[31m\n.safetensors")
    done = run("directions", "list", "--file", name, env={**environment(), "LC_ALL": "C"})
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"\x1b" not in done.stderr
    assert rb"-\udcff\x1b[31m\n.safetensors" in done.stderr
    latin = {**environment(), "PYTHONIOENCODING": "ascii"}
    assert rb"\xfcr-" in run("directions", "list", "--file", name, env=latin).stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Jürgen 写真 \u3000😀.jpg", "Jürgen 写真 \u3000😀.jpg"),
        ("a\x1b]0;x\x07b", r"a\x1b]0;x\x07b"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("a\r\n\tb", r"a\r\n\tb"),
    ],
)
def test_text_cannot_steer_the_terminal(text, shown):
    assert terminal.printable(text) == shown


@pytest.mark.parametrize(
    ("arguments", "code", "stream"),
    [(["directions", "list"], 0, "stdout"), (["directions", "show", "none"], 1, "stderr")],
)
def test_the_command_ends_with_its_code_and_all_that_it_said(arguments, code, stream):
    done = run(*arguments)
    assert done.returncode == code
    said = getattr(done, stream).decode()
    assert said.endswith("\n")
    assert len(said) > 20
