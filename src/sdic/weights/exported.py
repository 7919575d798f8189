"""Files that training makes: networks by name, and the recipe that they were trained by.

Keys are "network.parameter"; the metadata hold `format`, and as JSON `recipe`, as
`sdic train export` writes them. Files of a start alone (`sdic train encoder-start`) have none.
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
from sdic.weights.checkpoints import load_strict

FORMAT = "sdic-training-1"

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Exported:
    """Such a file, read.

    Attributes:
        source: its path, or its name in the registry of weights.
        networks: the tensors of each network, by the network's name.
        recipe: the recipe in plain tables; empty where there is none.
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
        WeightsError: the file cannot be read, or the weight cannot be had.
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
    return Exported(str(path), _by_network(tensors), _recipe(texts, path))


def is_exported(path: Path) -> bool:
    """Whether a file was made by `sdic train export`, by what it says of itself."""
    try:
        return read_metadata(path).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def _recipe(texts: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        recipe = json.loads(texts.get("recipe", "{}"))
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise WeightsError(
            f"The recipe in {path} cannot be read; give a file of `sdic train export`."
        )
    return recipe


def _by_network(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        networks.setdefault(name, {})[rest] = tensor
    return networks
