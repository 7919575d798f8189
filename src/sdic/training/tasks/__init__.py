"""Tasks: what is trained, and by which losses. Each obeys `sdic.training.task.Task`.

A file of this folder declares its task in `KIND`; every file is looked at, so a new task is known
as soon as its file is there.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.training.recipe import Recipe
from sdic.training.task import Task

__all__ = ["TaskKind", "get", "names"]


@dataclass(frozen=True)
class TaskKind:
    """What a recipe's key `task` names.

    Attributes:
        name: the key's value.
        build: makes the task of a recipe, with fresh weights, around a frozen generator.
        edits: it learns from images with an edit (`edited_pairs`).
    """

    name: str
    build: Callable[[Recipe, Generator], Task]
    edits: bool = False


@cache
def _kinds() -> dict[str, TaskKind]:
    modules = [import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    kinds = [module.KIND for module in modules if hasattr(module, "KIND")]
    return {kind.name: kind for kind in kinds}


def names() -> list[str]:
    """All values of a recipe's key `task`."""
    return list(_kinds())


def get(name: str) -> TaskKind:
    """A kind of task by its name.

    Raises:
        TrainingError: there is none.
    """
    if name not in _kinds():
        raise TrainingError(f"There is no task '{name}'; known are: {', '.join(_kinds())}.")
    return _kinds()[name]
