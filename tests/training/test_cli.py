"""`sdic train` as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sdic import generators
from sdic.cli.app import app
from sdic.cli.train import train_app
from sdic.errors import SdicError
from sdic.generators.mobile import MobileStyleGAN
from sdic.training import build, checkpoint, session
from sdic.training.tasks.encoder import EncoderTask

from . import tiny

RECIPE = """
task = "encoder"
steps = 3
image_size = 64
precision = "fp32"
[losses]
latents = 1.0
[data]
generator_share = 1.0
[log]
grid = 0
"""


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command with tiny components in place of fetched ones."""

    def task(recipe: Any, generator: MobileStyleGAN) -> EncoderTask:
        encoder = tiny.networks(generator)[0]
        joint = tiny.joint(recipe)
        return EncoderTask(generator, encoder, recipe.losses, joint, recipe.image_size)

    monkeypatch.setattr(build, "build_generator", lambda recipe: tiny.generator())
    monkeypatch.setattr(build, "build_task", task)
    monkeypatch.setattr(session, "tune_allocator", lambda: True)
    (tmp_path / "mine.toml").write_text(RECIPE)


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(train_app, [str(argument) for argument in arguments])


def test_train_go_on_and_export(tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "weights.safetensors"
    command = (tmp_path / "mine.toml", "--out", out, "--device", "cpu")
    result = invoke(*command, "--steps", "1")
    assert result.exit_code == 0, result.output
    assert "stopped at step 1; run the same command again" in result.output
    result = invoke(*command, "--set", "optimiser.learning_rate=1e-4")
    assert "resuming at step 1; changed since: optimiser.learning_rate" in result.output
    assert "finished after 3 steps" in result.output
    result = invoke("export", out, "--out", file)
    assert "step 3" in result.output
    assert file.is_file()


def test_no_time_is_a_checkpoint_of_step_0_and_no_more(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = invoke(tmp_path / "mine.toml", "--out", out, "--device", "cpu", "--minutes", "1e-9")
    assert "stopped at step 0" in result.output
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-00000000"]


def test_mistakes_are_errors_of_one_sentence(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    for arguments in (
        (recipe, "--out", tmp_path / "run", "--minutes", "-1"),
        (recipe, "--out", tmp_path / "run", "--set", "losses.lpips=1"),
        (recipe, "--out", tmp_path / "run", "--set", "data.generator_share=0.5"),
        (recipe, "--out", recipe, "--device", "cpu"),
        ("export", tmp_path, "--out", tmp_path / "file"),
    ):
        result = invoke(*arguments)
        assert isinstance(result.exception, SdicError), result.output
        assert "\n" not in str(result.exception)


PLACES = {
    "below a file": "mine.toml/file",
    "a link": "link",
    "a folder": "folder",
    "a device": "/dev/full",
    "nothing": "",
    "the root": "/",
    "here": ".",
    "a long name": "n" * 300,
    "below a long name": "n" * 300 + "/file",
}


NO_FOLDERS = ("below a file", "a device", "a long name", "below a long name")


@pytest.mark.parametrize(
    ("command", "place"),
    [
        *((command, place) for command in ("export", "encoder-start") for place in PLACES),
        *((command, place) for command in ("run", "ablations") for place in NO_FOLDERS),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    for target in (
        (build, "build_generator"),
        (checkpoint, "latest"),
        (generators, "create"),
    ):
        monkeypatch.setattr(*target, work)
    arguments = {
        "run": ["mine.toml"],
        "export": ["run"],
        "encoder-start": [],
        "ablations": ["full", "--data", "folder"],
    }[command]
    result = invoke(command, *arguments, "--out", PLACES[place])
    assert isinstance(result.exception, SdicError), result.exception
    assert "Cannot write" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not [*tmp_path.glob("**/.sdic-*")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--minutes", "nan"),
        ("--minutes", "-1"),
        ("--steps", "-1"),
        ("--devices", "0"),
        ("--devices", "1" + 30 * "0"),
        ("--device", "cpu:" + 5000 * "1"),
        ("--precision", "fp8"),
        ("--set", "optimiser.learning_rate=1e300"),
        ("--set", "losses.latents=nan"),
        ("--set", "accumulate=1" + 30 * "0"),
        ("--set", "data.generator_share=0", "--data", "n" * 5000),
        ("--set", "data.photos=['" + "n" * 5000 + "']", "--set", "data.generator_share=0"),
        ("--set", "data.photos=['a']", "--set", "data.generator_share=0", "--data", "."),
    ],
)
def test_bad_values_are_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = invoke(tmp_path / "mine.toml", "--out", tmp_path / "run", *arguments)
    assert isinstance(result.exception, SdicError), result.exception
    assert "\n" not in str(result.exception)


def test_the_command_hangs_on_the_application() -> None:
    result = CliRunner().invoke(app, ["train", "--help"])
    assert "export" in result.output
