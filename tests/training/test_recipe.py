"""Recipes: every shipped one is valid, and every mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdic.errors import TrainingError
from sdic.training import recipe as recipes
from sdic.training.tasks import compensation, editing, encoder
from sdic.training.tasks.common import check_losses


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes_are_valid_for_their_task(name: str) -> None:
    recipe = recipes.load(name)
    tasks = {"encoder": encoder, "compensation": compensation, "editing": editing}
    known = tasks[recipe.task].LOSSES
    check_losses(recipe.losses, known, recipe.task)


def test_the_paper_recipe_has_the_paper_s_numbers() -> None:
    recipe = recipes.load("sdic-paper")
    losses = recipe.losses
    assert (losses.l2, losses.perceptual, losses.identity) == (1.0, 0.8, 0.2)
    assert (losses.edit_latents, losses.edit_features, losses.edit_norm) == (0.5, 0.5, "l1")
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("ranger", 1e-3)
    assert (recipe.batch_size, recipe.steps) == (2, 100_000)


def test_overrides_change_nested_values_of_every_type(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('task = "encoder"\n[data]\nphotos = "one"\n')
    recipe = recipes.load(
        file,
        [
            "optimiser.learning_rate=1",
            "data.augmentation.occluders=0.25",
            "components.encoder=e4e",
            "channels_last=false",
            'validation.photos=["a", "b"]',
            "components.options.dipn.channels=64",
        ],
    )
    assert recipe.optimiser.learning_rate == 1.0
    assert recipe.data.augmentation.occluders == 0.25
    assert recipe.components.encoder == "e4e"
    assert recipe.channels_last is False
    assert recipe.data.photos == ("one",)
    assert recipe.validation.photos == ("a", "b")
    assert recipe.components.options == {"dipn": {"channels": 64}}
    assert recipes.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the key 'task'"),
        ('task = "encoder"\nstep = 3', "'step' is not known; did you mean 'steps'"),
        ('task = "encoder"\n[losses]\nlpips = 1', r"'losses\.lpips' is not known; known: l2"),
        ('task = "encoder"\nsteps = 1.5', "'steps' is 1.5; expected a whole number"),
        ('task = "encoder"\nsteps = true', "'steps' is True; expected a whole number"),
        ('task = "encoder"\nsteps = 0', "'steps' is 0; expected a number from 1 to 1,000,000,000"),
        ('task = "paint"', "'task' is 'paint'; expected 'compensation' or 'editing' or 'encoder'"),
        ('task = "encoder"\n[losses]\nl2 = -1', r"'losses\.l2' is -1\.0; expected a number from 0"),
        ('task = "encoder"\n[data]\ngenerator_share = 2', "expected a number from 0 to 1"),
        ('task = "encoder"\n[data]\nphotos = [1]', r"'data\.photos'.*expected a list of texts"),
        ('task = "encoder"\ndata = 1', "'data' is 1; expected a table"),
        ("task = ", "is not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(TrainingError, match=message):
        recipes.load(file)


DEEP = 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00binary", "expected a short text in UTF-8"),
        (b"\x93NUMPY" + bytes(200), "expected a short text in UTF-8"),
        (b"#" * 1_000_001, "expected a short text in UTF-8"),
        (b"steps = " + b"9" * 6000, "not valid TOML"),
        (b"a = " + b"[" * DEEP + b"]" * DEEP, "not valid TOML"),
        (b"a = " + b"{a=" * DEEP, "not valid TOML"),
        (b"a" + b".a" * 5000 + b" = 1", "'a' is not known"),
        (b'"a\\nb" = 1', r"'a\\nb' is not known"),
        (
            b"[components.options.dipn]\na" + b".a" * 5000 + b" = 1",
            r"'components\.options\.dipn\.a",
        ),
        (b"[components.options.dipn]\na = [[[[1]]]]", "a short list"),
        (b"[components.options.dipn]\na = 1979-05-27", "a short list"),
        (b"[components.options.dipn]\na = inf", "number up to 4,096"),
        (b"[components.options.dipn]\nchannels = 20000", "number up to 4,096"),
        (b"steps = 0x" + b"f" * 6000, "a value that is too long to be shown"),
        (b"seed = 0x" + b"f" * 16, "'seed' is 18446744073709551615; expected a number from 0"),
    ],
)
def test_files_that_are_no_recipe_are_one_short_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(b'task = "encoder"\n' + content if content.isascii() else content)
    with pytest.raises(TrainingError, match=message) as raised:
        recipes.load(file)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


NUMBERS = [
    "seed",
    *(f"losses.{name}" for name in recipes.Losses().weights()),
    *(key for key, limits in recipes._RANGES.items() if not isinstance(limits[0], str)),
]


def test_every_number_has_its_bounds() -> None:
    def numbers(table: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for key, value in table.items():
            if isinstance(value, dict):
                found |= numbers(value, f"{prefix}{key}.")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                found.add(prefix + key)
        return found

    assert numbers(recipes.from_dict({"task": "encoder"}).to_dict()) == set(NUMBERS)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e300", "1" + 30 * "0", "9" * 6000])
def test_numbers_are_finite_and_of_decent_size(key: str, value: str) -> None:
    with pytest.raises(TrainingError, match=key) as raised:
        recipes.load("sdic-compact", [f"{key}={value}"])
    assert "expected a" in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "source", ["", ".", "x" * 5000, "a\0b", "/dev/zero", "../recipes/sdic-paper", "no/sdic-paper"]
)
def test_names_that_are_no_recipe_s(source: str) -> None:
    with pytest.raises(TrainingError, match=r"no recipe|cannot be read"):
        recipes.load(source)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"no recipe 'nothing'.*sdic-paper"):
        recipes.load("nothing")


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(TrainingError, match="write it as key=value"):
        recipes.load("sdic-paper", ["steps"])
    with pytest.raises(TrainingError, match=r"'steps' in 'steps\.more=1' holds no table"):
        recipes.load("sdic-paper", ["steps.more=1"])


def test_a_foreign_loss_is_refused() -> None:
    recipe = recipes.from_dict({"task": "compensation", "losses": {"delta": 1.0}})
    with pytest.raises(TrainingError, match=r"losses\.delta is no loss of it"):
        check_losses(recipe.losses, compensation.LOSSES, recipe.task)
    recipe = recipes.from_dict({"task": "compensation", "losses": {"l2": 0.0}})
    with pytest.raises(TrainingError, match="all losses weigh 0"):
        check_losses(recipe.losses, compensation.LOSSES, recipe.task)
