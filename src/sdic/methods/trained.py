"""The project's own trained networks, as they ship in the package."""

from __future__ import annotations

from torch import Tensor, nn

from sdic import weights
from sdic.encoders.compact import CompactEncoder
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.methods.compact import CompactDICN, CompactDIPN
from sdic.methods.compact_transfer import CompactTransfer
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC
from sdic.weights.checkpoints import load_strict

# Registry keys of the weights for each generator: encoder; DIPN, DICN and the transfer.
TRAINED = {"mobile": ("encoder-mobile", "sdic-mobile")}
# Beside the trained transfer, see `Inverter`; chosen on photos that were held out from training.
RELEASE = 0.7
GAINS = {"age": 1.5}


def load_e4e(generator: Generator) -> E4E:
    """The trained encoder of a generator, alone.

    Raises:
        InputError: no encoder was trained for this generator.
        WeightsError: the file is damaged.
    """
    return E4E(generator, _encoder(generator, _keys(generator)[0]))


def load_sdic(generator: Generator) -> SDIC:
    """The trained encoder, compensation networks and transfer of a generator.

    Raises:
        InputError: none were trained for this generator.
        WeightsError: a file is damaged.
    """
    encoder_key, key = _keys(generator)
    channels = generator.feature_shape[0]
    networks = {
        "dipn": CompactDIPN(),
        "dicn": CompactDICN(generator.num_styles, channels),
        "transfer": CompactTransfer(channels),
    }
    tensors = weights.load(key)
    for name, network in networks.items():
        load_strict(network, _part(tensors, name), f"{key}: {name}")
        _frozen(network)
    encoder = _encoder(generator, encoder_key)
    sdic = SDIC(generator, encoder, networks["dipn"], networks["dicn"])
    sdic.transfer, sdic.release, sdic.gains = networks["transfer"], RELEASE, GAINS
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
