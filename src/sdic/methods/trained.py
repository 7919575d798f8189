"""Trained networks in a method that is ready to run: those of the package, and those of a user."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from sdic import weights
from sdic.encoders.compact import CompactEncoder
from sdic.errors import InputError, WeightsError
from sdic.generators.base import Generator
from sdic.methods.compact import CompactDICN, CompactDIPN
from sdic.methods.compact_transfer import CompactTransfer
from sdic.methods.components import (
    Components,
    build_compensation,
    build_encoder,
    build_generator,
    build_transfer,
)
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC
from sdic.weights import exported
from sdic.weights.exported import Exported

# Registry keys of the weights for each generator: encoder; DIPN, DICN and the transfer.
TRAINED = {"mobile": ("encoder-mobile", "sdic-mobile")}
# Beside the trained transfer, see `Inverter`; chosen on photos that were held out from training.
RELEASE = 0.7
GAINS = {"age": 1.5}

Network = TypeVar("Network", bound=nn.Module)


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
    trained = exported.read(key)
    dipn = _filled(trained, CompactDIPN(), "dipn")
    dicn = _filled(trained, CompactDICN(generator.num_styles, channels), "dicn")
    sdic = SDIC(generator, _encoder(generator, encoder_key), dipn, dicn)
    sdic.transfer = _filled(trained, CompactTransfer(channels), "transfer")
    sdic.release, sdic.gains = RELEASE, GAINS
    return sdic


def load_exported(path: Path) -> SDIC | E4E:
    """What `sdic train export` made of a run, on the generator that it was trained for.

    A file of the task "encoder" is e4e's; the others are SDIC's, with the encoder that the recipe
    names: a weight of the registry, or a file at its path or beside this one. Edits follow eq. 6,
    or the trained transfer with the `RELEASE` of the shipped one, but without its gains.

    Raises:
        WeightsError: the file or its encoder is not there or cannot be read, or does not fit.
        InputError: the recipe in the file names components that there are not.
    """
    trained = exported.read(path)
    components = _components(trained)
    alone = trained.recipe.get("task") == "encoder"
    source = trained if alone else exported.read(_encoder_of(components, path))
    generator = build_generator(components)
    encoder = _filled(source, build_encoder(components, generator), "encoder")
    if alone:
        return E4E(generator, encoder)
    dipn, dicn = build_compensation(components, generator)
    sdic = SDIC(generator, encoder, _filled(trained, dipn, "dipn"), _filled(trained, dicn, "dicn"))
    if "transfer" in trained.networks:
        sdic.transfer = _filled(trained, build_transfer(components, generator), "transfer")
        sdic.release = RELEASE
    return sdic


def _components(trained: Exported) -> Components:
    try:
        return Components(**trained.recipe.get("components", {}))
    except TypeError as error:
        raise WeightsError(
            f"{trained.source} was trained by another version of sdic ({error}); export it again "
            "with this one."
        ) from error


def _encoder_of(components: Components, path: Path) -> str | Path:
    """The registry's name of the encoder, or its file."""
    named = components.encoder_weights
    if named in weights.names():
        return named
    for place in (Path(named), path.parent / Path(named).name):
        if named and place.is_file():
            return place
    raise WeightsError(
        f"{path} stands on the encoder '{named}', which is neither at that path nor beside the "
        "file; put it there."
    )


def _keys(generator: Generator) -> tuple[str, str]:
    if generator.name not in TRAINED:
        raise InputError(
            f"No networks were trained for the generator '{generator.name}'; give the published "
            "SDIC or e4e file as checkpoint, or use the generator 'mobile'."
        )
    return TRAINED[generator.name]


def _encoder(generator: Generator, key: str) -> nn.Module:
    return _filled(exported.read(key), CompactEncoder(generator.num_styles), "encoder")


def _filled(trained: Exported, network: Network, name: str) -> Network:
    return trained.fill(network, name).eval().requires_grad_(False)
