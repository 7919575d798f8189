"""What a method's file declares of itself; the rest of the package learns of it here alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from sdic.generators.base import Generator
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods.base import Inverter
from sdic.weights.exported import Exported

Network = TypeVar("Network", bound=nn.Module)


class Fill(Protocol):
    """Gives a network the weights that a checkpoint has for it, and freezes it."""

    def __call__(
        self,
        network: Network,
        name: str,
        part: str,
        rules: Mapping[str, str],
        unused: tuple[str, ...] = (),
        **own: Any,
    ) -> Network:
        """Fill a network.

        Args:
            network: with any weights.
            name: what converted files call it.
            part: the prefix of its keys in an official file.
            rules: beginnings of official key paths, and ours.
            unused: beginnings of official paths that the published forward pass never reaches.
            own: tensors by our key that no official key gives.
        """


@dataclass(frozen=True)
class Official:
    """How an official checkpoint of a method is recognised and read.

    Attributes:
        parts: prefixes of its keys, the generator's "decoder" among them; a file with just these,
            but for networks of losses, is this method's.
        build: makes the method of the generator, what fills its networks, and whether the file
            has no mean latent of its own.
        zero_mean: a file without `latent_avg` means that nothing is added to codes, not the mean.
        older: names of parts in earlier files, and today's.
    """

    parts: tuple[str, ...]
    build: Callable[[StyleGAN2, Fill], Inverter]
    zero_mean: bool = False
    older: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Method:
    """An entry of the shelf.

    Attributes:
        name: key in the registry.
        summary: one line for a table.
        build: makes it on a generator, with the weights that ship for that.
        evidence: what was measured of it, and where the table is.
        iterates: it needs the generator's gradients, and takes minutes where others take a second.
        rule: for a method that is another one with other edits: makes it of that one.
        inversions: key of the method whose inversions it makes and edits; "" is its own.
        tasks: training tasks whose exports are files of this method.
        from_export: makes it of such an export at a path.
        official: how an official checkpoint is recognised and read; None where there is none.
    """

    name: str
    summary: str
    build: Callable[[Generator], Inverter]
    evidence: str = ""
    iterates: bool = False
    rule: Callable[[Any], Inverter] | None = None
    inversions: str = ""
    tasks: tuple[str, ...] = ()
    from_export: Callable[[Exported, Path], Inverter] | None = None
    official: Official | None = None

    def edits(self, other: Method) -> bool:
        """Whether it can edit what another method inverted."""
        return (self.inversions or self.name) == (other.inversions or other.name)
