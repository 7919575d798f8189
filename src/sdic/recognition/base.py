"""What all recognition networks share: frozen, on the CPU, and fetched by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from sdic import weights
from sdic.errors import WeightsError

if TYPE_CHECKING:
    from typing_extensions import Self

Kind = TypeVar("Kind", bound=nn.Module)


class Network(nn.Module, ABC):
    """A pretrained network that judges faces; never trained here.

    `pretrained` gives it frozen, in eval mode, on the CPU. Gradients flow to the images, not to
    the parameters.

    Attributes:
        name: key of the network in its registry, and the word for it in reports.
        weights: its name in `sdic.weights`.
    """

    name: ClassVar[str]
    weights: ClassVar[str]

    @abstractmethod
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the published tensors in, under the names of the published file.

        Raises:
            WeightsError: a tensor is missing, surplus or of another shape.
        """

    @classmethod
    def pretrained(cls) -> Self:
        """The network with its published weights, fetched on first use.

        Raises:
            WeightsError: the weights cannot be fetched or do not fit.
        """
        network = cls()
        network.load_tensors(weights.load(cls.weights))
        return network.freeze()

    def freeze(self) -> Self:
        """Switch off gradients of all parameters and go to eval mode; returns self."""
        self.eval()
        self.requires_grad_(False)
        return self


class Recogniser(Network):
    """A network that embeds a face so that one person's photos lie together.

    Attributes:
        dimensions: length of the embedding.
        measure: what `compare` gives: "cosine" (higher is more alike) or "distance" (lower is).
        same_person: the mean of `compare` over pairs of photos of one person.
        different_people: the mean of `compare` over pairs of photos of two people.
    """

    dimensions: ClassVar[int]
    measure: ClassVar[str] = "cosine"
    same_person: ClassVar[float]
    different_people: ClassVar[float]

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1], FFHQ-aligned, to unit embeddings [N,dimensions]."""

    def compare(self, images: Tensor, others: Tensor) -> Tensor:
        """How alike two faces are, pair by pair [N], in the recogniser's own measure."""
        similarities: Tensor = (self(images) * self(others)).sum(1)
        return similarities


def of_kind(modules: Iterable[nn.Module], kind: type[Kind]) -> list[Kind]:
    """Those of the modules that are of one kind, in order."""
    return [module for module in modules if isinstance(module, kind)]


def pair_tensors(name: str, targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into targets one by one.

    Raises:
        WeightsError: their number or a shape differs.
    """
    if len(targets) != len(values):
        raise WeightsError(
            f"The weights of {name} hold {len(values)} tensors where {len(targets)} were expected:"
            " delete them from the cache and fetch them again."
        )
    for target, value in zip(targets, values, strict=True):
        copy_tensor(name, target, value)


def copy_tensor(name: str, target: Tensor | None, value: Tensor) -> None:
    """Copy one value into a parameter or buffer.

    Raises:
        WeightsError: the shapes differ.
    """
    if target is None or target.shape != value.shape:
        expected = "none" if target is None else str(tuple(target.shape))
        raise WeightsError(
            f"A tensor of {name} has shape {tuple(value.shape)} where {expected} was expected:"
            " delete the weights from the cache and fetch them again."
        )
    with torch.no_grad():
        target.copy_(value)
