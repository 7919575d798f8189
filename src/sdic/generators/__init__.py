"""Generators: a shelf of pretrained networks under one contract (`generators.base`)."""

from __future__ import annotations

from pathlib import Path

from sdic import weights
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.generators.mobile import BLOCK_CHANNELS, MobileStyleGAN
from sdic.generators.stylegan2 import FEATURE_LAYER, StyleGAN2, layer_of_side
from sdic.weights.unfilled import Unfilled

__all__ = ["Generator", "create", "names"]


def names() -> list[str]:
    """Keys of all generators that `create` knows."""
    return ["mobile", "stylegan2"]


def create(
    name: str = "mobile",
    checkpoint: str | Path | None = None,
    feature_layer: int = FEATURE_LAYER,
) -> Generator:
    """A pretrained generator by its key, frozen, on the CPU.

    Args:
        name: "mobile" (its weights are fetched if needed) or "stylegan2".
        checkpoint: for "stylegan2": a published generator, e4e, pSp or SDIC file.
        feature_layer: the layer of StyleGAN2 whose output is F; 5, 7 and 9 make 32x32, 64x64 and
            128x128. The mobile generator is split after the block that makes a map of that side.

    Raises:
        InputError: no generator has this key, or the arguments do not belong to it.
        WeightsError: its weights cannot be fetched or read.
    """
    if name not in names():
        raise InputError(f"There is no generator '{name}'; known are: {', '.join(names())}.")
    if name == "stylegan2":
        if checkpoint is None:
            raise InputError(
                "The generator 'stylegan2' comes without weights; give the path of a published "
                "StyleGAN2, e4e or SDIC file as checkpoint."
            )
        return StyleGAN2.from_checkpoint(checkpoint, feature_layer)
    if checkpoint is not None:
        raise InputError(
            "The generator 'mobile' has its own weights; leave out the checkpoint, or choose "
            "'stylegan2'."
        )
    layers = [layer_of_side(8 * 2**i) for i in range(len(BLOCK_CHANNELS))]
    if feature_layer not in layers:
        raise InputError(
            f"The generator 'mobile' cannot be split at layer {feature_layer}; choose one of: "
            f"{', '.join(map(str, layers))}."
        )
    with Unfilled():
        generator = MobileStyleGAN(feature_block=layers.index(feature_layer))
    generator.load_state_dict(weights.load("mobile"))
    return generator.freeze()
