"""The contract that every inversion method keeps, and what an inversion is."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from sdic import domains
from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.generators.base import Generator, Identity
from sdic.images import resize_area
from sdic.runtime.backends import accelerate, accelerate_network, resolve_backend
from sdic.runtime.delegating import original

INVERSION_SIZE = domains.FACES.size[0]  # side of the images that a method sees

# Called after each step of a method that iterates: (steps done, steps in all, loss).
Progress = Callable[[int, int, float], None]

AnyInverter = TypeVar("AnyInverter", bound="Inverter")


@dataclass
class Inversion:
    """What a method keeps of N photos: enough to generate them, and every edit of them.

    Attributes:
        method: key of the method in the registry.
        generator: which generator it was made with; a fingerprint of "" is not known (old files).
        latents: w* [N,S,512], the latents of the final pass.
        base_latents: w [N,S,512] before compensation; equal to `latents` in methods without one.
            The features before and after an edit (eq. 6) come from these.
        features: F* [N,C,H,W] put in place of the generator's own, or None to use its own.
        weights: generator parameters that the method changed, by name (PTI, HyperStyle).
        reconstruction: [N,3,256,256] in [-1,1], what `synthesize` gives at 256 without an edit.
        render: the same at the size at which it was made; it is not kept in files.
        base_features: F(w) of `base_latents`, where it was computed anyway; not kept in files.
        metadata: texts that travel with the file, e.g. where in which photo the crop lay.
        extras: whatever else a method's edits need, by name, e.g. the photo [N,3,256,256].
    """

    method: str
    generator: Identity
    latents: Tensor
    base_latents: Tensor
    features: Tensor | None
    reconstruction: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    render: Tensor | None = None
    base_features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> Inversion:
        """The same inversion on another device."""

        def moved(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.to(device) for name, value in values.items()}

        return Inversion(
            self.method,
            self.generator,
            self.latents.to(device),
            self.base_latents.to(device),
            None if self.features is None else self.features.to(device),
            self.reconstruction.to(device),
            moved(self.weights),
            self.metadata,
            moved(self.extras),
            None if self.render is None else self.render.to(device),
            None if self.base_features is None else self.base_features.to(device),
        )


def check_images(images: Tensor) -> None:
    """Raise InputError unless images are float [N,3,256,256] in [-1,1]."""
    expected = f"expected float images [N,3,{INVERSION_SIZE},{INVERSION_SIZE}] in [-1,1]"
    if images.ndim != 4 or images.shape[1:] != (3, INVERSION_SIZE, INVERSION_SIZE):
        raise InputError(f"Got images of shape {list(images.shape)}; {expected}.")
    if not images.is_floating_point() or not images.abs().max() <= 1 + 1e-3:
        raise InputError(f"Got values of type {images.dtype} or outside [-1,1]; {expected}.")


class Inverter(ABC):
    """An inversion method for one generator.

    `invert` and `synthesize` are the same for all of them: a method finds codes in `_invert`, and
    says in `edited_features` what becomes of its F* when they are edited.

    Attributes:
        generator: what it inverts into.
        name: key in the registry.
        iterates: whether an inversion is a descent of many steps.
        settings: a frozen dataclass of what else decides the result, or None.
    """

    name: str
    iterates: ClassVar[bool] = False
    settings: Any = None

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The method's own networks, without the generator; the names are those of attributes."""
        return {}

    def invert(
        self,
        images: Tensor,
        progress: Progress | None = None,
        size: int | None = INVERSION_SIZE,
    ) -> Inversion:
        """Invert images [N,3,256,256] in [-1,1].

        Args:
            images: what is inverted.
            progress: called after each step of a method that iterates.
            size: at which the unedited image is made, at least 256; it is kept as `render`, and
                the reconstruction is its area average. None is full resolution.

        Raises:
            InputError: the images have another shape or range.
        """
        check_images(images)
        inversion = self._invert(images, progress)
        made = self.synthesize(inversion, size=size)
        inversion.render = made
        small = made.shape[-1] == INVERSION_SIZE
        inversion.reconstruction = made if small else resize_area(made, INVERSION_SIZE)
        return inversion

    @abstractmethod
    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        """An inversion of images [N,3,256,256] in [-1,1] without its reconstruction."""

    @torch.no_grad()
    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """Generate the inverted images [N,3,size,size], edited if asked for.

        Compensate, then edit. Strength 0 gives back the inversion exactly.

        Raises:
            InputError: the inversion belongs to another generator, or its F* to another layer.
        """
        self.check(inversion)
        if edit is None or torch.equal(edit.apply(inversion.base_latents), inversion.base_latents):
            latents, features = inversion.latents, inversion.features
        else:
            edit = self.strengthened(edit, inversion)
            latents, features = edit.apply(inversion.latents), self.edited_features(inversion, edit)
        if features is None:
            features = self.to_features(latents, inversion.weights)
        return self.from_features(features, latents, inversion.weights, size)

    def strengthened(self, edit: Edit, inversion: Inversion) -> Edit:
        """The edit that is applied where this one is asked for; the same, unless a method says."""
        return edit

    def edited_features(self, inversion: Inversion, edit: Edit) -> Tensor | None:
        """F* [N,C,H,W] after an edit that changes the latents; None to use the generator's own.

        Eq. 6: F* + F(edited w) - F(w), both of the codes before compensation.
        """
        if inversion.features is None:
            return None
        base, changed = self.features_of_edit(inversion, edit)
        return inversion.features + changed - base

    def features_of_edit(self, inversion: Inversion, edit: Edit) -> tuple[Tensor, Tensor]:
        """F(w) and F(edited w), [N,C,H,W] each, of the codes before compensation."""
        codes, weights = inversion.base_latents, inversion.weights
        base = inversion.base_features
        base = self.to_features(codes, weights) if base is None else base
        return base, self.to_features(edit.apply(codes), weights)

    def made(
        self,
        latents: Tensor,
        *,
        base_latents: Tensor | None = None,
        features: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Inversion:
        """An inversion of this method and generator, without its reconstruction."""
        return Inversion(
            self.name,
            original(self.generator).identity,
            latents,
            latents if base_latents is None else base_latents,
            features,
            latents.new_empty(0),
            dict(weights or {}),
        )

    def check(self, inversion: Inversion) -> None:
        """Raise InputError unless the inversion can be generated here.

        Raises:
            InputError: it was made with another generator, or keeps features of another layer.
        """
        check_generator(inversion, original(self.generator))

    def on_backend(self: AnyInverter, backend: str, device: str) -> AnyInverter:
        """A copy whose generator and networks are run by a backend on a device.

        Args:
            backend: see `runtime.backends.resolve_backend`.
            device: a torch device.

        Raises:
            InputError: there is no such backend.
        """
        backend = resolve_backend(self.generator, backend, device)
        there = copy.copy(self)
        there.generator = accelerate(self.generator, backend, device)
        for name, network in self.networks.items():
            setattr(there, name, accelerate_network(network, backend, device))
        return there

    def to_features(self, latents: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """First half of the generator, with some of its weights changed."""
        return self._with(weights).to_features(latents)

    def from_features(
        self, features: Tensor, latents: Tensor, weights: Mapping[str, Tensor], size: int | None
    ) -> Tensor:
        """Second half of the generator, with some of its weights changed."""
        return self._with(weights).from_features(features, latents, size)

    def _with(self, weights: Mapping[str, Tensor]) -> Generator:
        """The generator as it is, or in PyTorch where weights change: a graph's are fixed."""
        return original(self.generator).with_tensors(weights) if weights else self.generator


def check_generator(inversion: Inversion, generator: Generator) -> None:
    """Raise InputError unless an inversion belongs to a generator.

    Raises:
        InputError: it was made with another one, has other rows, or features of another layer.
    """
    made, here = inversion.generator, generator.identity
    known = made.fingerprint and here.fingerprint
    if made.family != here.family or (known and made.fingerprint != here.fingerprint):
        raise InputError(
            f"The inversion was made with the generator '{made.family}' "
            f"({made.fingerprint or 'no fingerprint'}), not with '{here.family}' "
            f"({here.fingerprint}); load that generator, or invert the photo again."
        )
    if inversion.latents.shape[1] != generator.num_styles:
        raise InputError(
            f"The inversion has {inversion.latents.shape[1]} rows of latents, the generator "
            f"'{here.family}' takes {generator.num_styles}; load the generator that it was made "
            "with, or invert the photo again."
        )
    features, expected = inversion.features, generator.feature_shape
    if features is not None and tuple(features.shape[1:]) != tuple(expected):
        found, wanted = ("x".join(map(str, shape)) for shape in (features.shape[1:], expected))
        raise InputError(
            f"The inversion keeps features of {found}, the generator here is compensated at "
            f"{wanted}; load the checkpoint that the inversion was made with, or invert the photo "
            "again."
        )
