"""SDIC and its ways to edit: what runs, which weights, which files; `method` has the algorithm."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sdic.editing import library
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods.base import INVERSION_SIZE
from sdic.methods.components import (
    Components,
    PartKinds,
    build_generator,
    build_part,
    empty,
    trained_part,
)
from sdic.methods.declaration import Fill, Method, Official
from sdic.methods.e4e import exported_encoder, official_encoder, shipped_encoder
from sdic.methods.sdic import official_keys
from sdic.methods.sdic.carry_over import CarryOver
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.methods.sdic.compact_transfer import CompactTransfer
from sdic.methods.sdic.dicn import DICN
from sdic.methods.sdic.dipn import DIPN
from sdic.methods.sdic.method import SDIC, EditFirstSDIC, compensate
from sdic.weights import exported
from sdic.weights.exported import Exported

__all__ = ["METHODS", "SDIC", "EditFirstSDIC", "build_compensation", "build_transfer", "compensate"]

# Key of the weights that ship for a generator's family: DIPN, DICN and the transfer.
SHIPPED = {"mobile": "sdic-mobile"}
# Of what ships, chosen on photos that were held out from training.
RELEASE = 0.7
GAINS = {"age": 1.5}


PARTS: PartKinds = {
    "dipn": {
        "compact": lambda generator, **options: CompactDIPN(**options),
        "paper": lambda generator, **options: DIPN("paper", **options),
        "published": lambda generator, **options: DIPN("published", **options),
    },
    "dicn": {
        "compact": lambda generator, **options: CompactDICN(
            generator.num_styles, generator.feature_shape[0], **options
        ),
        "paper": lambda generator, **options: DICN(
            generator.num_styles, generator.feature_shape, "paper", **options
        ),
        "published": lambda generator, **options: DICN(
            generator.num_styles, generator.feature_shape, "published", **options
        ),
    },
    "transfer": {
        "compact": lambda generator, **options: CompactTransfer(
            generator.feature_shape[0], **options
        )
    },
}


def build_compensation(components: Components, generator: Generator) -> dict[str, nn.Module]:
    """DIPN and DICN with fresh weights, by name.

    Raises:
        InputError: there is no such network, or its options do not fit it.
    """
    return {name: build_part(PARTS, components, name, generator) for name in ("dipn", "dicn")}


def build_transfer(components: Components, generator: Generator) -> nn.Module:
    """The transfer of a compensation to edits, with fresh weights.

    Raises:
        InputError: its options do not fit it.
    """
    return build_part(PARTS, components, "transfer", generator)


def _shipped(generator: Generator) -> SDIC:
    """With the trained networks of a generator.

    Raises:
        InputError: none were trained for it.
        WeightsError: a file is damaged.
    """
    encoder = shipped_encoder(generator)
    trained = exported.read(SHIPPED[generator.name])
    dipn, dicn = _networks(trained, Components(), generator)
    shelf = library.load_library(generator)
    gains = tuple((shelf[name], gain) for name, gain in GAINS.items() if name in shelf)
    carry_over = CarryOver(_transfer(trained, Components(), generator), RELEASE, gains)
    return SDIC(generator, encoder, dipn, dicn, carry_over=carry_over)


def _from_export(trained: Exported, path: Path) -> SDIC:
    """Edits follow eq. 6, or the trained transfer with the release of the shipped one."""
    components = Components.of(trained)
    generator = build_generator(components)
    encoder = exported_encoder(components, path, generator)
    carry_over = None
    if "transfer" in trained.networks:
        carry_over = CarryOver(_transfer(trained, components, generator), RELEASE)
    dipn, dicn = _networks(trained, components, generator)
    return SDIC(generator, encoder, dipn, dicn, carry_over=carry_over)


def _networks(
    trained: Exported, components: Components, generator: Generator
) -> tuple[nn.Module, nn.Module]:
    cell, side = components.options.get("dipn", {}).get("cell", 4), generator.feature_shape[1]
    if components.kind("dipn") == "compact" and cell != INVERSION_SIZE / side:
        raise InputError(
            f"A DIPN with cells of {cell} pixels does not fit features of side {side}; expected "
            f"cells of {INVERSION_SIZE // side}."
        )
    dipn, dicn = (
        trained_part(PARTS, components, name, generator, trained) for name in ("dipn", "dicn")
    )
    return dipn, dicn


def _transfer(trained: Exported, components: Components, generator: Generator) -> nn.Module:
    return trained_part(PARTS, components, "transfer", generator, trained)


def _official(generator: StyleGAN2, fill: Fill) -> SDIC:
    styles, shape = generator.num_styles, generator.feature_shape
    return SDIC(
        generator,
        official_encoder(generator, fill),
        fill(DIPN("published"), "dipn", "DIP", official_keys.DIPN_RULES, official_keys.DIPN_UNUSED),
        fill(
            empty(DICN, styles, shape, "published"),
            "dicn",
            "SAF",
            official_keys.DICN_RULES,
            official_keys.DICN_UNUSED,
        ),
        "published",
    )


def _ruled(
    name: str, summary: str, evidence: str, release: float = 0.0, kind: type[SDIC] = SDIC
) -> Method:
    """The entry of an SDIC with edits by a rule instead of the trained transfer."""

    def rule(sdic: SDIC) -> SDIC:
        return sdic.by_rule(name, CarryOver(release=release), kind)

    return Method(
        name,
        summary,
        lambda generator: rule(_shipped(generator)),
        evidence,
        rule=rule,
        inversions=name if kind is EditFirstSDIC else "sdic",
    )


METHODS = (
    Method(
        "sdic",
        "encoder, then compensation of w and F by DIPN and DICN",
        _shipped,
        evidence="30.0 dB, dlib distance .10, 0.78 s; of the encoder's change of age, smile and "
        "yaw it keeps .88, .81, .87 (docs/results/sdic.md)",
        tasks=("compensation", "editing"),
        from_export=_from_export,
        official=Official(
            ("encoder", "decoder", "DIP", "SAF"),
            _official,
            zero_mean=True,
            older={"CGI": "DIP", "residue": "SAF"},
        ),
    ),
    _ruled(
        "sdic-eq6",
        "as sdic, with edits by the letter of eq. 6",
        "Of the change of age, smile and yaw it keeps .25, .18, .24 (docs/results/sdic.md)",
    ),
    _ruled(
        "sdic-release",
        "as sdic, with edits by eq. 6 that release the compensation where much changes",
        "Of the change of age, smile and yaw it keeps .49, .79, .85 (docs/results/sdic.md)",
        release=RELEASE,
    ),
    _ruled(
        "sdic-edit-first",
        "as sdic, but edited before the compensation (figure 4c of the paper)",
        "Of the change of age, smile and yaw it keeps .05, 0, .01 (docs/results/benchmark.md)",
        kind=EditFirstSDIC,
    ),
)
