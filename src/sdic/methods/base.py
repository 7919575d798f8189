"""The contract that every inversion method keeps, and what an inversion is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.methods.transfer import Addition, released
from sdic.runtime.delegating import original

INVERSION_SIZE = 256  # side of the images that a method sees

# Called after each step of a method that iterates: (steps done, steps in all, loss).
Progress = Callable[[int, int, float], None]


@dataclass
class Inversion:
    """What a method keeps of N photos: enough to generate them, and every edit of them.

    Attributes:
        method: key of the method in the registry.
        generator: key of the generator.
        latents: w* [N,S,512], the latents of the final pass.
        base_latents: w [N,S,512] before compensation; equal to `latents` in methods without one.
            The features before and after an edit (eq. 6) come from these.
        features: F* [N,C,H,W] put in place of the generator's own, or None to use its own.
        weights: generator parameters that the method changed, by name (PTI, HyperStyle).
        reconstruction: [N,3,256,256] in [-1,1], what `synthesize` gives at 256 without an edit.
        metadata: texts that travel with the file, e.g. where in which photo the crop lay.
        photo: [N,3,256,256] in [-1,1], what was inverted, in methods whose edits need it.
    """

    method: str
    generator: str
    latents: Tensor
    base_latents: Tensor
    features: Tensor | None
    reconstruction: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    photo: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)


def check_images(images: Tensor) -> None:
    """Raise InputError unless images are float [N,3,256,256] in [-1,1]."""
    expected = f"expected float images [N,3,{INVERSION_SIZE},{INVERSION_SIZE}] in [-1,1]"
    if images.ndim != 4 or images.shape[1:] != (3, INVERSION_SIZE, INVERSION_SIZE):
        raise InputError(f"Got images of shape {list(images.shape)}; {expected}.")
    if not images.is_floating_point() or images.abs().max() > 1 + 1e-3:
        raise InputError(f"Got values of type {images.dtype} or outside [-1,1]; {expected}.")


class Inverter(ABC):
    """An inversion method for one generator.

    `invert` is the method's own; `synthesize` is the same for all of them.

    Attributes:
        generator: what it inverts into.
        transfer: carries F* over to an edit, see `methods.transfer`; eq. 6 unless it is replaced.
        release: change of the features at which what was carried over gives way, see
            `methods.transfer.released`; 0 is never.
        gains: by the name of a direction, how much more strongly it is applied than asked for, to
            make up for what the compensation takes back of it.
        name: key in the registry.
        iterates: whether an inversion is a descent of many steps.
    """

    name: str
    iterates: ClassVar[bool] = False

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.transfer: torch.nn.Module = Addition()
        self.release = 0.0
        self.gains: Mapping[str, float] = {}

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The method's own networks, without the generator; the names are those of attributes."""
        return {}

    def replace_networks(self, change: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
        """Put what `change` makes of each own network, and of the transfer, in its place."""
        for name, network in self.networks.items():
            setattr(self, name, change(network))
        self.transfer = change(self.transfer)

    @abstractmethod
    def invert(self, images: Tensor, progress: Progress | None = None) -> Inversion:
        """Invert images [N,3,256,256] in [-1,1].

        Raises:
            InputError: the images have another shape or range.
        """

    @torch.no_grad()
    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """Generate the inverted images [N,3,size,size], edited if asked for.

        Compensate, then edit: `transfer` makes F* of the edited face from F*, F(w) and F(edited w),
        with the last two of the codes before compensation; eq. 6 is F* + F(edited w) - F(w).
        Strength 0 gives back the inversion exactly. `gains` and `release` are used where there is
        an F*.

        Raises:
            InputError: the F* of the inversion is of another layer of the generator.
        """
        latents, features = inversion.latents, inversion.features
        expected = self.generator.feature_shape
        if features is not None and tuple(features.shape[1:]) != tuple(expected):
            raise InputError(
                f"The inversion keeps features of {_by(features.shape[1:])}, the generator here is "
                f"compensated at {_by(expected)}; load the checkpoint that the inversion was made "
                "with, or invert the photo again."
            )
        if edit is not None:
            if features is not None:
                edit = edit.scaled(self.gains)
            latents = edit.apply(latents)
            if features is not None:
                edited = edit.apply(inversion.base_latents)
                if not torch.equal(edited, inversion.base_latents):
                    base = self._to_features(inversion.base_latents, inversion.weights)
                    changed = self._to_features(edited, inversion.weights)
                    features = self.transfer(features, base, changed)
                    if self.release:
                        features = released(features, base, changed, self.release)
        if features is None:
            features = self._to_features(latents, inversion.weights)
        return self._from_features(features, latents, inversion.weights, size)

    def _to_features(self, latents: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        return self._call(_FirstHalf(self._runs(weights)), weights, latents)

    def _from_features(
        self, features: Tensor, latents: Tensor, weights: Mapping[str, Tensor], size: int | None
    ) -> Tensor:
        return self._call(_SecondHalf(self._runs(weights)), weights, features, latents, size)

    def _runs(self, weights: Mapping[str, Tensor]) -> Generator:
        """The generator as it is, or in PyTorch where weights change: a graph's are fixed."""
        return original(self.generator) if weights else self.generator

    def _call(
        self, half: torch.nn.Module, weights: Mapping[str, Tensor], *args: Tensor | int | None
    ) -> Tensor:
        if not weights:
            return half(*args)  # type: ignore[no-any-return]
        changed = {f"generator.{name}": weight for name, weight in weights.items()}
        return functional_call(half, changed, args)  # type: ignore[no-any-return]


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


class _FirstHalf(torch.nn.Module):
    """`to_features` as a module, so that `functional_call` can swap weights."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator.to_features(latents)


class _SecondHalf(torch.nn.Module):
    """`from_features` as a module, so that `functional_call` can swap weights."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, features: Tensor, latents: Tensor, size: int | None) -> Tensor:
        return self.generator.from_features(features, latents, size)
