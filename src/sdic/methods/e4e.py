"""e4e (Tov 2021): one pass of an encoder, no compensation. SDIC starts from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdic.encoders.compact import CompactEncoder
from sdic.encoders.e4e import E4EEncoder
from sdic.errors import InputError, WeightsError
from sdic.generators.base import Generator
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods.base import Inversion, Inverter, Progress
from sdic.methods.components import (
    Components,
    PartKinds,
    build_generator,
    build_part,
    empty,
    trained_part,
)
from sdic.methods.declaration import Fill, Method, Official
from sdic.weights import exported
from sdic.weights.exported import Exported

# Key of the weights that ship for a generator's family.
SHIPPED = {"mobile": "encoder-mobile"}
OFFICIAL_RULES = {
    "input_layer.": "trunk.input_layer.",
    "body.": "trunk.body.",
    "styles.": "styles.",
    "latlayer1.": "lateral2.",
    "latlayer2.": "lateral1.",
}


class E4E(Inverter):
    """Inversion by an encoder alone: w = encoder(I).

    Args:
        generator: the generator whose latents the encoder gives.
        encoder: images [N,3,256,256] to latents w+ [N,S,512].
    """

    name = "e4e"

    def __init__(self, generator: Generator, encoder: nn.Module) -> None:
        super().__init__(generator)
        self.encoder = encoder

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoder by name."""
        return {"encoder": self.encoder}

    @torch.no_grad()
    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        return self.made(self.encoder(images))


def _compact(generator: Generator, **options: int) -> CompactEncoder:
    return CompactEncoder(generator.num_styles, generator.mean_latent, **options)


def _paper(generator: Generator, **options: Any) -> E4EEncoder:
    encoder = E4EEncoder(generator.num_styles, **options)
    encoder.mean_latent.copy_(generator.mean_latent.expand_as(encoder.mean_latent))
    return encoder


PARTS: PartKinds = {"encoder": {"compact": _compact, "e4e": _paper}}


def build_encoder(components: Components, generator: Generator) -> CompactEncoder | E4EEncoder:
    """The encoder that components name, with fresh weights, around the generator's mean latent.

    Raises:
        InputError: there is no such encoder, or its options do not fit it.
    """
    return build_part(PARTS, components, "encoder", generator)  # type: ignore[return-value]


def shipped_encoder(generator: Generator) -> nn.Module:
    """The encoder that ships for a generator.

    Raises:
        InputError: none was trained for it.
        WeightsError: the file is damaged.
    """
    if generator.name not in SHIPPED:
        raise InputError(
            f"No networks were trained for the generator '{generator.name}'; give the published "
            "SDIC or e4e file as checkpoint, or use the generator 'mobile'."
        )
    return exported.read(SHIPPED[generator.name]).frozen(_compact(generator), "encoder")


def exported_encoder(components: Components, beside: Path, generator: Generator) -> nn.Module:
    """The encoder that an exported method stands on: of the registry, or at or beside a path.

    Raises:
        WeightsError: it is not there, or does not fit.
    """
    from sdic import weights

    named = components.encoder_weights
    places = [Path(named), beside.parent / Path(named).name] if named else []
    found = named if named in weights.names() else next((p for p in places if p.is_file()), None)
    if found is None:
        raise WeightsError(
            f"{beside} stands on the encoder '{named}', which is neither at that path nor beside "
            "the file; put it there."
        )
    return trained_part(PARTS, components, "encoder", generator, exported.read(found))


def official_encoder(generator: StyleGAN2, fill: Fill) -> E4EEncoder:
    """The official encoder, filled."""
    return fill(empty(E4EEncoder, generator.num_styles), "encoder", "encoder", OFFICIAL_RULES)


def _from_export(trained: Exported, path: Path) -> E4E:
    components = Components.of(trained)
    generator = build_generator(components)
    return E4E(generator, trained_part(PARTS, components, "encoder", generator, trained))


METHODS = (
    Method(
        "e4e",
        "the encoder alone",
        lambda generator: E4E(generator, shipped_encoder(generator)),
        evidence="15.4 dB, dlib distance .65, 0.36 s (docs/results/sdic.md)",
        tasks=("encoder",),
        from_export=_from_export,
        official=Official(
            ("encoder", "decoder"),
            lambda generator, fill: E4E(generator, official_encoder(generator, fill)),
        ),
    ),
)
