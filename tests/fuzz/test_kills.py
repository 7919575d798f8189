"""A few kills of each command; `kills` has as many as one likes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands run in forks")


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from .kills import Victims

    made = Victims(Path(tmp_path_factory.mktemp("kills")).resolve())
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("name", ["edit", "invert", "animate", "fetch", "train"])
def test_a_kill_loses_nothing_but_the_work_in_hand(victims: object, name: str) -> None:
    met = [victims.kill(name, Random(f"{name}-{i}")) for i in range(4)]  # type: ignore[attr-defined]
    assert any(met)
