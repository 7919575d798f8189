"""The project's own trained networks, as they ship in the package."""

from __future__ import annotations

from torch import Tensor, nn

from sdic import weights
from sdic.encoders.compact import CompactEncoder
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.methods.compact import CompactDICN, CompactDIPN
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC
from sdic.weights.checkpoints import load_strict

# Relative change of features at which the compensation gives way; docs/results/sdic.md compares.
RELEASE = 0.8
# Registry keys of the weights for each generator: encoder, compensation.
TRAINED = {"mobile": ("encoder-mobile", "sdic-mobile")}


def load_e4e(generator: Generator) -> E4E:
    """The trained encoder of a generator, alone.

    Raises:
        InputError: no encoder was trained for this generator.
        WeightsError: the file is damaged.
    """
    encoder_key, _ = _keys(generator)
    return E4E(generator, _encoder(generator, encoder_key))


def load_sdic(generator: Generator) -> SDIC:
    """The trained encoder and compensation networks of a generator.

    Raises:
        InputError: none were trained for this generator.
        WeightsError: a file is damaged.
    """
    encoder_key, compensation_key = _keys(generator)
    tensors = weights.load(compensation_key)
    dipn = CompactDIPN()
    dicn = CompactDICN(generator.num_styles, generator.feature_shape[0])
    for name, network in (("dipn", dipn), ("dicn", dicn)):
        load_strict(network, _part(tensors, name), f"{compensation_key}: {name}")
    encoder = _encoder(generator, encoder_key)
    sdic = SDIC(generator, encoder, _frozen(dipn), _frozen(dicn))
    sdic.release = RELEASE
    return sdic


def _keys(generator: Generator) -> tuple[str, str]:
    if generator.name not in TRAINED:
        raise InputError(
            f"No networks were trained for the generator '{generator.name}'; give the published "
            "SDIC or e4e file as checkpoint, or use the generator 'mobile'."
        )
    return TRAINED[generator.name]


def _encoder(generator: Generator, key: str) -> nn.Module:
    encoder = CompactEncoder(generator.num_styles)
    load_strict(encoder, _part(weights.load(key), "encoder"), key)
    return _frozen(encoder)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {
        key[len(prefix) :]: tensor.float()
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)
