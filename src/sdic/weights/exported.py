"""Files that training makes: networks by name, and the recipe that they were trained by.

Keys are "network.parameter"; the metadata hold `format`, and as JSON `recipe` and `files`, as
`sdic train export` writes them. Files of a start alone (`sdic train encoder-start`) have none.
A recipe in an export names files without their folders; `files` holds the sha256 of those that the
networks stand on, by their key in the recipe.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch import Tensor, nn

from sdic import weights
from sdic.errors import WeightsError
from sdic.files import read_metadata, read_tensors
from sdic.weights.cache import file_sha256
from sdic.weights.checkpoints import load_strict

FORMAT = "sdic-training-1"
# Keys of the recipe that may name a file without which the networks cannot run.
FILES = ("components.encoder_weights", "components.options.generator.checkpoint")

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Exported:
    """Such a file, read.

    Attributes:
        source: its path, or its name in the registry of weights.
        networks: the tensors of each network, by the network's name.
        recipe: the recipe in plain tables; empty where there is none. Files of `FILES` that lie
            beside the export have their whole path.
    """

    source: str
    networks: dict[str, dict[str, Tensor]]
    recipe: dict[str, Any] = field(default_factory=dict)

    def fill(self, network: Network, name: str) -> Network:
        """Give a network the weights that lie under a name; returns the network.

        Raises:
            WeightsError: they are not there, or do not fit.
        """
        load_strict(network, self.networks.get(name, {}), f"{self.source}: {name}")
        return network

    def frozen(self, network: Network, name: str) -> Network:
        """As `fill`, for use: in eval mode, without gradients."""
        return self.fill(network, name).eval().requires_grad_(False)


def read(source: str | Path) -> Exported:
    """Read a weight of the registry by its name, or a file that training made by its path.

    Args:
        source: a text is a name if the registry has it; a `Path` is always a path.

    Raises:
        WeightsError: the file cannot be read, the weight cannot be had, or a file beside it that
            it stands on is not the one that it was trained with.
    """
    if isinstance(source, str) and source in weights.names():
        return Exported(source, _by_network(weights.load(source)))
    path = Path(source)
    try:
        tensors, texts = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"The weights {path} cannot be read ({error}); give a file of `sdic train export`."
        ) from error
    recipe = _table(texts, "recipe", path)
    digests = _table(texts, "files", path)
    for key in FILES:
        _find(recipe, key, digests.get(key), path)
    return Exported(str(path), _by_network(tensors), recipe)


def is_exported(path: Path) -> bool:
    """Whether a file was made by `sdic train export`, by what it says of itself."""
    try:
        return read_metadata(path).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def entry(recipe: dict[str, Any], key: str) -> tuple[dict[str, Any], str, str]:
    """The table of a recipe that a dotted key lies in, the key's last part, and its text or ""."""
    *parents, leaf = key.split(".")
    table: Any = recipe
    for parent in parents:
        table = table.get(parent) if isinstance(table, dict) else None
    table = table if isinstance(table, dict) else {}
    value = table.get(leaf)
    return table, leaf, value if isinstance(value, str) else ""


def _find(recipe: dict[str, Any], key: str, digest: Any, path: Path) -> None:
    """Give a file that a recipe names its whole path, if it lies beside the export."""
    table, leaf, named = entry(recipe, key)
    file = path.parent / Path(named).name
    try:
        there = file.is_file()
    except OSError:  # no file can have this name
        there = False
    if not named or named in weights.names() or not there:
        return
    if digest is not None and file_sha256(file) != digest:
        raise WeightsError(
            f"{path} stands on the file {file.name}, but that of this name beside it is another "
            "one; put the one there that it was trained with."
        )
    table[leaf] = str(file)


def _table(texts: dict[str, str], name: str, path: Path) -> dict[str, Any]:
    try:
        table = json.loads(texts.get(name, "{}"))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise WeightsError(
            f"The {name} in {path} cannot be read; give a file of `sdic train export`."
        )
    return table


def _by_network(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        networks.setdefault(name, {})[rest] = tensor
    return networks
