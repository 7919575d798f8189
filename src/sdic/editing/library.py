"""The file format of directions, and the library that ships with the package.

One safetensors file holds many directions of one generator. A tensor under the name of a direction
is its vector, [512] or [S,512]. The header's metadata has `format`, `generator`, and `directions`:
a JSON object that gives rows, range of strength, source and notes for each name. A direction with
GANSpace's absolute rule has a tensor `NAME/mean` too, and its `target` in the JSON.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sdic.editing.catalogue import DAMAGES, FORMAT, Description, library_file, read_descriptions
from sdic.editing.direction import AbsoluteDirection, Direction
from sdic.editing.foreign import SUFFIXES, read_foreign
from sdic.errors import InputError
from sdic.files import read_tensors, save_tensors
from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.spaces import LAYOUTS

SUFFIX = ".safetensors"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def load_library(generator: str | Generator = "mobile") -> dict[str, Direction]:
    """The directions that ship for a generator, by name; empty where none do.

    Args:
        generator: a family's key, or a generator, which takes the directions of its space over.
    """
    path = library_file(generator if isinstance(generator, str) else generator.name)
    if path.is_file():
        return load_directions(path)
    if isinstance(generator, str):
        return {}
    families = [name for name, (space, _) in LAYOUTS.items() if space == generator.space]
    there = [file for name in families if (file := library_file(name)).is_file()]
    return {
        name: adapted(direction, generator)
        for file in there
        for name, direction in load_directions(file).items()
    }


def adapted(direction: Direction, generator: Generator) -> Direction:
    """A direction of another generator of the same space, for this one: the same layers move.

    Raises:
        InputError: the direction's space is another.
    """
    space, layers = LAYOUTS.get(direction.generator, ("", ()))
    if space != generator.space:
        raise InputError(
            f"Direction '{direction.name}' was made for generator '{direction.generator}', whose "
            f"codes are not those of this '{generator.name}'. Choose that generator, or import the "
            "vector for this one."
        )
    # Of each row here, the row there that acts on the same layer, or on the last one before it.
    sources = [
        max(row for row, there in enumerate(layers) if there <= layer)
        for layer in generator.row_layers
    ]
    rows, vector = direction.rows, direction.vector
    if rows is not None:
        touched = {layers[row] for row in rows}
        rows = tuple(i for i, source in enumerate(sources) if layers[source] in touched)
    if vector.ndim == 2 and len(vector) == len(layers):
        vector = vector[sources]
    return replace(direction, vector=vector, rows=rows, generator=generator.name)


def get(spec: str, generator: str | Generator = "mobile") -> Direction:
    """One direction: `NAME` of the shipped library, `FILE:NAME`, or a FILE with just one.

    Directions of another generator of the same space are taken over, see `adapted`. A file is a
    library (.safetensors) or a vector of other projects (see `foreign.read_foreign`). It is told
    from a name by its folder or its suffix: `smile` is always the one that ships, `./smile` a file.

    Raises:
        InputError: there is no such direction or file, or it belongs to another generator.
        WeightsError: see `foreign.read_foreign`.
    """
    family = generator if isinstance(generator, str) else generator.name
    path, name = _split(spec)
    if path is None:
        return _pick(load_library(generator), name, f"the library of '{family}'")
    if path.suffix.lower() != SUFFIX:
        return read_foreign(path, family)
    directions = load_directions(path)
    if not name and len(directions) == 1:
        name = next(iter(directions))
    direction = _pick(directions, name, str(path))
    if direction.generator == family:
        return direction
    if isinstance(generator, str):
        raise InputError(
            f"Direction '{name}' in {path} was made for generator '{direction.generator}', not "
            f"'{family}'. Choose that generator, or import the vector for this one."
        )
    return adapted(direction, generator)


def _split(spec: str) -> tuple[Path | None, str]:
    """`FILE:NAME`, `FILE` or `NAME` as file and name; a drive letter is no file."""
    file, _, name = spec.rpartition(":")
    if _is_path(spec) and (os.path.isfile(spec) or not _is_path(file)):
        return Path(spec), ""
    return (Path(file), name) if _is_path(file) else (None, spec)


def _is_path(text: str) -> bool:
    return any(mark in text for mark in ("/", os.sep)) or text.lower().endswith(SUFFIXES)


def _pick(directions: Mapping[str, Direction], name: str, where: str) -> Direction:
    if name not in directions:
        known = ", ".join(sorted(directions)) or "none"
        raise InputError(f"There is no direction '{name}' in {where}; known are: {known}.")
    return directions[name]


def save_directions(directions: Iterable[Direction], path: Path) -> None:
    """Write directions of one generator into one file, in the order given, whole or not at all.

    Raises:
        InputError: there are none, two share a name, a name is not lower-case letters, digits,
            dots, underscores and hyphens, their generators differ, or the file cannot be written
            or would not be known as one of directions by its suffix.
    """
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"A file of directions cannot be named {path}; its name ends in {SUFFIX}.")
    tensors: dict[str, Tensor] = {}
    table: dict[str, dict[str, Any]] = {}
    generators = set()
    for direction in directions:
        name = direction.name
        if not _NAME.fullmatch(name):
            raise InputError(
                f"'{name}' cannot name a direction; use lower-case letters, digits, dots, "
                "underscores and hyphens, e.g. 'hair-length'."
            )
        if name in table:
            raise InputError(f"Two directions are named '{name}'; names in a file are unique.")
        generators.add(direction.generator)
        tensors[name] = direction.vector
        table[name] = {
            "rows": None if direction.rows is None else list(direction.rows),
            "range": list(direction.strength_range),
            "source": direction.source,
            "notes": dict(direction.notes),
        }
        if isinstance(direction, AbsoluteDirection):
            tensors[f"{name}/mean"] = direction.mean
            table[name]["target"] = direction.target
    if len(generators) != 1:
        found = ", ".join(sorted(generators)) or "no directions"
        raise InputError(f"A file holds directions of one generator; got {found}.")
    metadata = {"format": FORMAT, "generator": generators.pop(), "directions": json.dumps(table)}
    save_tensors(path, tensors, metadata)


def load_directions(path: Path) -> dict[str, Direction]:
    """Read a file of `save_directions`, in its order.

    Raises:
        InputError: the file is missing, is no such file, or its parts do not fit each other.
    """
    described = read_descriptions(path)
    try:
        tensors, _ = read_tensors(path)
        return {name: _direction(one, tensors) for name, one in described.items()}
    except (*DAMAGES, SafetensorError, OSError) as error:
        raise InputError(
            f"The table of directions in {path} is damaged ({str(error)[:100]}); make it again."
        ) from error


def _direction(described: Description, tensors: Mapping[str, Tensor]) -> Direction:
    name = described.name
    vector = tensors[name].to(torch.float32)
    if not _NAME.fullmatch(name) or vector.ndim not in (1, 2) or vector.shape[-1] != LATENT_DIM:
        raise ValueError(f"{name!r} has shape {list(vector.shape)}")
    values = vars(described).copy()
    target = values.pop("target")
    if target is None:
        return Direction(vector=vector, **values)
    mean = tensors[f"{name}/mean"].to(torch.float32)
    return AbsoluteDirection(vector=vector, mean=mean, target=target, **values)


def merge_into(path: Path, directions: Iterable[Direction]) -> None:
    """Add directions to a file, which is made if it is missing; equal names are replaced.

    Raises:
        InputError: see `load_directions` and `save_directions`.
    """
    existing = load_directions(path) if os.path.lexists(path) else {}
    existing.update({direction.name: direction for direction in directions})
    save_directions(existing.values(), path)
