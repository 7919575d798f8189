"""The parts of a trained method by name, and how they are built: what a recipe says of them.

Training builds them to train them, `methods.trained` to run what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from sdic import generators
from sdic.encoders.compact import CompactEncoder
from sdic.encoders.e4e import E4EEncoder
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.methods.compact import CompactDICN, CompactDIPN
from sdic.methods.compact_transfer import CompactTransfer
from sdic.methods.dicn import DICN
from sdic.methods.dipn import DIPN

Part = TypeVar("Part")


@dataclass(frozen=True)
class Components:
    """The parts of a task by name, and constructor arguments for each that needs some.

    Attributes:
        generator: key of `sdic.generators`.
        encoder: "compact" or "e4e".
        encoder_weights: file that `sdic train export` made of an encoder's run, or a name of
            `sdic weights list`.
        compensation_weights: the same of DIPN and DICN, where the task "editing" starts; of the
            transfer too, if it is in the file.
        dipn: "compact", "paper" or "published".
        dicn: "compact", "paper" or "published".
        options: constructor arguments, e.g. `options.dipn.channels = 128`.
    """

    generator: str = "mobile"
    encoder: str = "compact"
    encoder_weights: str = ""
    compensation_weights: str = ""
    dipn: str = "compact"
    dicn: str = "compact"
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def fused(self) -> bool:
        """Whether training merges the generator's linear maps; the result is the same."""
        return bool(self.options.get("generator", {}).get("fused", False))

    @property
    def bf16(self) -> bool:
        """Whether training runs a fused generator in bf16, whatever the precision of the rest."""
        return bool(self.options.get("generator", {}).get("bf16", False))


def build_generator(components: Components) -> Generator:
    """The generator, frozen, not fused.

    Raises:
        InputError, WeightsError: see `generators.create`; options that do not fit it.
    """
    given = components.options.get("generator", {})
    options = {key: value for key, value in given.items() if key not in ("fused", "bf16")}
    return _call("generator", generators.create, (components.generator,), options)


def build_encoder(components: Components, generator: Generator) -> CompactEncoder | E4EEncoder:
    """The encoder with fresh weights, around the generator's mean latent.

    Raises:
        InputError: there is no such encoder, or its options do not fit it.
    """
    options = components.options.get("encoder", {})
    if components.encoder == "compact":
        mean = generator.mean_latent
        return _call("encoder", CompactEncoder, (generator.num_styles, mean), options)
    if components.encoder == "e4e":
        encoder = _call("encoder", E4EEncoder, (generator.num_styles,), options)
        encoder.mean_latent.copy_(generator.mean_latent.expand_as(encoder.mean_latent))
        return encoder
    raise InputError(f"There is no encoder '{components.encoder}'; known are: compact, e4e.")


def build_compensation(components: Components, generator: Generator) -> tuple[nn.Module, nn.Module]:
    """DIPN and DICN with fresh weights.

    Raises:
        InputError: there is no such network, or its options do not fit it.
    """
    dipn_options = components.options.get("dipn", {})
    dicn_options = components.options.get("dicn", {})
    dipn: nn.Module
    dicn: nn.Module
    if components.dipn == "compact":
        dipn = _call("dipn", CompactDIPN, (), dipn_options)
    else:
        dipn = _call("dipn", DIPN, (components.dipn,), dipn_options)
    styles, shape = generator.num_styles, generator.feature_shape
    if components.dicn == "compact":
        dicn = _call("dicn", CompactDICN, (styles, shape[0]), dicn_options)
    else:
        dicn = _call("dicn", DICN, (styles, shape, components.dicn), dicn_options)
    return dipn, dicn


def build_transfer(components: Components, generator: Generator) -> CompactTransfer:
    """The transfer of a compensation to edits, with fresh weights.

    Raises:
        InputError: its options do not fit it.
    """
    channels = generator.feature_shape[0]
    return _call("transfer", CompactTransfer, (channels,), components.options.get("transfer", {}))


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
