"""The parts of a trained method by name, and how they are built: what a recipe says of them.

Training builds them to train them, methods to run what was trained. A method's file says which
kinds of each part there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sdic import generators
from sdic.errors import InputError, WeightsError
from sdic.generators.base import Generator
from sdic.weights.checkpoints import check_fit
from sdic.weights.exported import Exported

Part = TypeVar("Part")
Network = TypeVar("Network", bound=nn.Module)

# By the name of a part and then of its kind: what builds it for a generator, with fresh weights.
PartKinds = Mapping[str, Mapping[str, Callable[..., nn.Module]]]

# Calls of PyTorch that a constructor may make for each tensor of its weights; most make 5 to 12.
CALLS = 32
# What constructors stumble over, given options that they are not made for.
MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            InputError: a name is no text, or the options of a part are no table.
        """
        for entry in fields(self):
            value = getattr(self, entry.name)
            expected = dict if entry.name in ("parts", "options") else str
            if not isinstance(value, expected):
                kind = "a table" if expected is dict else "a text"
                raise InputError(
                    f"components.{entry.name} is {str(value)[:80]!r}; expected {kind}."
                )
        for name, kind in self.parts.items():
            if not isinstance(kind, str):
                raise InputError(f"components.parts.{name} is {str(kind)[:80]!r}; expected a text.")
        for name, table in self.options.items():
            if not isinstance(table, dict):
                raise InputError(
                    f"components.options.{name} is {str(table)[:80]!r}; expected a table."
                )

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
        except (InputError, TypeError) as error:
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


def trained_part(
    kinds: PartKinds, components: Components, name: str, generator: Generator, trained: Exported
) -> nn.Module:
    """A part with the weights of an export, for use: in eval mode, without gradients.

    The options come from the file, too. So the part is first built without memory and compared with
    the tensors that are there: none is asked for that the file does not hold.

    Raises:
        InputError: there is no such kind, or its options do not fit it.
        WeightsError: the weights are not there, or do not fit.
    """
    weights = trained.networks.get(name, {})
    with torch.device("meta"), _Counted(100 + CALLS * len(weights)):
        built = build_part(kinds, components, name, generator)
    check_fit(built, weights, f"{trained.source}: {name}")
    void = [key for key, value in weights.items() if not value.numel()]
    if void:
        raise WeightsError(
            f"{trained.source} holds no numbers in {name}.{void[0]}; export it again."
        )
    return trained.frozen(build_part(kinds, components, name, generator), name)


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
    except InputError:
        raise
    except MISFITS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"components.options.{component} does not fit the component: {reason[:200]}."
        ) from error


class _Counted(TorchFunctionMode):
    """At most so many calls of PyTorch: a file's count of blocks may be any number."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.left -= 1
        # Where a parameter begins, and nowhere else: leaving `torch.no_grad` is such a call, too.
        if self.left < 0 and func is torch.empty:
            raise ValueError("the file holds fewer tensors than its options speak of")
        return func(*args, **(kwargs or {}))
