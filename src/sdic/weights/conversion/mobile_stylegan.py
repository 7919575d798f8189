"""MobileStyleGAN's OpenVINO graphs to the state dict of `sdic.generators.mobile.MobileStyleGAN`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.errors import WeightsError
from sdic.weights.conversion.openvino_ir import read_constants

LATENT_DIM = 512
MAPPING_LAYERS = 8
BLOCKS = 7
MEAN_SAMPLES = 10_000
SLOPE = 0.2


def convert_mobile_stylegan(files: Sequence[Path]) -> dict[str, Tensor]:
    """The generator's whole state dict.

    Args:
        files: MappingNetwork.xml, MappingNetwork.bin, SynthesisNetwork.xml, SynthesisNetwork.bin.

    Raises:
        WeightsError: the graphs do not have the constants of MobileStyleGAN.
    """
    mapping_xml, mapping_bin, synthesis_xml, synthesis_bin = files
    mapping = _mapping(read_constants(mapping_xml, mapping_bin))
    try:
        synthesis = _synthesis(read_constants(synthesis_xml, synthesis_bin))
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"{synthesis_xml.name} is not MobileStyleGAN's synthesis network: a constant is "
            f"missing ({error})."
        ) from error
    named = {f"mapping_network.layers.{key}": value for key, value in mapping.items()}
    return {**named, **synthesis, "mean_latent": _mean_latent(mapping)}


def _mapping(constants: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    # The scales of the linear layers are folded into their weights, and the layers' own names are
    # lost, so shape and order tell what is what.
    weights = [value for _, value in constants if value.shape == (LATENT_DIM, LATENT_DIM)]
    biases = [value for _, value in constants if value.shape == (LATENT_DIM,)]
    if len(weights) != MAPPING_LAYERS or len(biases) != MAPPING_LAYERS:
        raise WeightsError(
            f"MobileStyleGAN's mapping network has {MAPPING_LAYERS} linear layers; the graph has "
            f"{len(weights)} weights and {len(biases)} biases."
        )
    named = {f"{i}.weight": value for i, value in enumerate(weights)}
    return named | {f"{i}.bias": value for i, value in enumerate(biases)}


def _synthesis(constants: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    named = dict(constants)
    noises = [value for _, value in constants if _is_noise(value)]
    # The 1x1 (for conv1: 3x3) kernels with demodulation folded in, in the order of the layers.
    kernels = [v for name, v in constants if name.startswith("Mul_") and name.endswith("_copy")]

    sources = {"conv1": "m.conv1"}
    for i in range(BLOCKS):
        sources[f"blocks.{i}.conv1"] = f"m.layers.{i}.conv1"
        sources[f"blocks.{i}.conv2"] = f"m.layers.{i}.conv2"

    state = {"constant": named["m.input.input"]}
    for position, (ours, theirs) in enumerate(sources.items()):
        state |= _modulation(named, f"{ours}.modulation", f"{theirs}.conv.modulation")
        if position > 0:
            depthwise = named[f"{theirs}.conv.weight_dw"]
            state[f"{ours}.depthwise.weight"] = depthwise.reshape(-1, 1, 3, 3)
        state[f"{ours}.conv.weight"] = kernels[position]
        state[f"{ours}.noise"] = noises[position]
        state[f"{ours}.bias"] = named[f"{theirs}.bias"]
    for i in range(BLOCKS):
        state |= _modulation(named, f"blocks.{i}.up", f"m.layers.{i}.up.modulation")
    head = f"m.layers.{BLOCKS - 1}.to_img"
    state |= _modulation(named, "to_image_modulation", f"{head}.conv.modulation")
    state["to_image.weight"] = named[f"{head}.conv.weight"]
    state["to_image.bias"] = named[f"{head}.bias"].reshape(-1)
    return state


def _is_noise(value: Tensor) -> bool:
    """Noise maps are the constants of shape 1 x 1 x side x side."""
    return (
        value.ndim == 4
        and value.shape[:2] == (1, 1)
        and value.shape[2] == value.shape[3]
        and value.shape[2] > 1
    )


def _modulation(named: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    weight, bias = named[f"{theirs}.weight"], named[f"{theirs}.bias"]
    return {f"{ours}.weight": weight.reshape(-1, LATENT_DIM), f"{ours}.bias": bias.reshape(-1)}


def _mean_latent(mapping: dict[str, Tensor]) -> Tensor:
    """Mean [512] of the mapping network over `MEAN_SAMPLES` standard normal z, seed 0."""
    random = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(MEAN_SAMPLES, LATENT_DIM, generator=random)
    x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
    for i in range(MAPPING_LAYERS):
        x = nnf.linear(x, mapping[f"{i}.weight"], mapping[f"{i}.bias"])
        x = nnf.leaky_relu(x, SLOPE) * math.sqrt(2)
    return x.mean(dim=0)
