"""The parts of a trained method by name, and how they are built: what a recipe says of them.

Training builds them to train them, methods to run what was trained. A method's file says which
kinds of each part there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from sdic import generators
from sdic.errors import InputError, WeightsError
from sdic.generators.base import Generator
from sdic.weights.exported import Exported

Part = TypeVar("Part")
Network = TypeVar("Network", bound=nn.Module)

# By the name of a part and then of its kind: what builds it for a generator, with fresh weights.
PartKinds = Mapping[str, Mapping[str, Callable[..., nn.Module]]]


@dataclass(frozen=True)
class Components:
    """The parts of a task by name, and constructor arguments for each that needs some.

    Attributes:
        generator: key of `sdic.generators`.
        encoder: kind of the encoder: "compact" or "e4e".
        encoder_weights: file that `sdic train export` made of an encoder's run, or a name of
            `sdic weights list`.
        compensation_weights: the same of what a further part of the training starts from, e.g. of
            DIPN and DICN, where the task "editing" starts.
        dipn: "compact", "paper" or "published".
        dicn: "compact", "paper" or "published".
        parts: kinds of parts of other methods, by their name.
        options: constructor arguments, e.g. `options.dipn.channels = 128`.
    """

    generator: str = "mobile"
    encoder: str = "compact"
    encoder_weights: str = ""
    compensation_weights: str = ""
    dipn: str = "compact"
    dicn: str = "compact"
    parts: dict[str, str] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def fused(self) -> bool:
        """Whether training merges the generator's linear maps; the result is the same."""
        return bool(self.options.get("generator", {}).get("fused", False))

    @property
    def bf16(self) -> bool:
        """Whether training runs a fused generator in bf16, whatever the precision of the rest."""
        return bool(self.options.get("generator", {}).get("bf16", False))

    def kind(self, part: str) -> str:
        """The kind of a part."""
        return self.parts.get(part) or str(getattr(self, part, "compact"))

    @classmethod
    def of(cls, trained: Exported) -> Components:
        """The components that an export was trained with.

        Raises:
            WeightsError: the recipe in it has others.
        """
        try:
            return cls(**trained.recipe.get("components", {}))
        except TypeError as error:
            raise WeightsError(
                f"{trained.source} was trained by another version of sdic ({error}); export it "
                "again with this one."
            ) from error


def build_generator(components: Components) -> Generator:
    """The generator, frozen, not fused.

    Raises:
        InputError, WeightsError: see `generators.create`; options that do not fit it.
    """
    given = components.options.get("generator", {})
    options = {key: value for key, value in given.items() if key not in ("fused", "bf16")}
    return _call("generator", generators.create, (components.generator,), options)


def build_part(
    kinds: PartKinds, components: Components, name: str, generator: Generator
) -> nn.Module:
    """A part of the kind that components name, for a generator, with fresh weights.

    Raises:
        InputError: there is no such kind, or its options do not fit it.
    """
    kind = components.kind(name)
    if kind not in kinds[name]:
        known = ", ".join(kinds[name])
        raise InputError(f"There is no {name} '{kind}'; known are: {known}.")
    return _call(name, kinds[name][kind], (generator,), components.options.get(name, {}))


def empty(network: Callable[..., Network], *args: Any) -> Network:
    """A large network without the time to initialise what a checkpoint will fill."""
    with torch.device("meta"):
        built = network(*args)
    return built.to_empty(device="cpu")


def _call(
    component: str,
    factory: Callable[..., Part],
    arguments: tuple[Any, ...],
    options: Mapping[str, Any],
) -> Part:
    """Build a component, naming it where its options do not fit."""
    try:
        return factory(*arguments, **options)
    except TypeError as error:
        raise InputError(
            f"components.options.{component} does not fit the component: {error}."
        ) from error
