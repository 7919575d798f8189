"""The sweep for a minute: the same inputs each time, which hypothesis chooses and makes smaller."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .mutators import mutated
from .world import KINDS, BrokenError, HangError, World

EXAMPLES = 35  # of each kind; together some 40 s


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp()).resolve()
    yield World(folder / "world")
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_or_is_refused_in_one_sentence(world: World, kind: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def attack(random: Random) -> None:
        assert world.attack(kind, random) in ("works", "refused")

    attack()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "command line"])
def test_good_files_work(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep begins with is whole: else it would only see what is refused at once."""
    monkeypatch.setattr("fuzz.world.mutated", lambda data, *_: data)
    random = Random(1)
    found = {world.attack(kind, random) for _ in range(20)}
    assert "works" in found


def test_the_oracle_sees(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(deed: object) -> None:
        monkeypatch.setattr("fuzz.world.call", deed)
        world.attack("recipe", Random(0))

    def escapes(_: object) -> None:
        raise KeyError

    def waits(_: object) -> None:
        raise HangError

    def half(_: object) -> None:
        world.out.mkdir()
        (world.out / "a.png").write_bytes(b"\x89PNG")

    def elsewhere(_: object) -> None:
        (world.inputs / "more").write_bytes(b"")

    def silent(_: object) -> int:
        return 1

    for deed, words in {
        escapes: "KeyError",
        waits: "hangs",
        half: "half-written",
        silent: "not a word",
        elsewhere: "outside the output folder",
    }.items():
        with pytest.raises(BrokenError, match=words):
            run(deed)
    (world.inputs / "more").unlink()


def test_mutators_change_what_they_are_given(world: World) -> None:
    for files in world.seeds.values():
        data = files[0].read_bytes()
        changed = [mutated(data, Random(i), data) for i in range(30)]
        assert len(set(changed)) > 20
        assert mutated(data, Random(3)) == mutated(data, Random(3))
