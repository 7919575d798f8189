"""Official checkpoints of SDIC and e4e: read, checked key by key, converted to safetensors.

An official file holds `state_dict` (prefixes encoder, decoder, and for SDIC also DIP and SAF),
`latent_avg`, the mean latent that is added to every code, and `opts`. Faces have 18 style rows and
1024x1024 pixels, cars 16 rows and 512x512.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdic.encoders.e4e import E4EEncoder
from sdic.errors import InputError, WeightsError
from sdic.files import save_tensors
from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods import published_keys as official
from sdic.methods.dicn import DICN
from sdic.methods.dipn import DIPN
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC
from sdic.weights.checkpoints import load_strict, part_of, read_checkpoint

PARTS = ("encoder", "decoder", "DIP", "SAF")
OLDER_NAMES = {"CGI": "DIP", "residue": "SAF"}  # names of the parts in earlier files
NOT_WEIGHTS = tuple(prefix.removesuffix(".") for prefix in official.LOSS_PREFIXES)

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Conversion:
    """What became of an official checkpoint.

    Attributes:
        method: "sdic" or "e4e".
        num_styles: rows of its latents.
        resolution: side of its images.
        num_tensors: tensors written.
        dropped: full official names of tensors that were left out: those that the published
            forward pass never reaches, and networks of the training losses.
        notes: sentences about what the file lacks.
    """

    method: str
    num_styles: int
    resolution: int
    num_tensors: int
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def load_published(path: str | Path) -> SDIC | E4E:
    """An official SDIC or e4e checkpoint, or what `convert_checkpoint` made of one, ready to run.

    SDIC gets the preset "published". All networks are frozen, in eval mode, on the CPU. A file with
    a `decoder`, an `encoder` and no more is e4e's.

    Raises:
        InputError: there is no such file.
        WeightsError: the file cannot be read, or does not fit the published networks; the keys in
            the way are named.
    """
    inverter, _, _ = _read(path)
    return inverter


def convert_checkpoint(path: str | Path, out: str | Path) -> Conversion:
    """Convert an official SDIC or e4e checkpoint to one safetensors file.

    Args:
        path: the official file.
        out: the file to write; its name ends in .safetensors.

    Raises:
        InputError: there is no such file, or `out` cannot be written.
        WeightsError: see `load_published`.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"{out} does not end in .safetensors; choose such a name for the output.")
    inverter, dropped, notes = _read(path)
    tensors = {
        f"{part}.{key}": tensor.contiguous()
        for part, network in _networks(inverter).items()
        for key, tensor in network.state_dict().items()
    }
    tensors["generator.mean_latent"] = inverter.generator.mean_latent
    metadata = {"method": inverter.name, "preset": "published"}
    save_tensors(out, tensors, metadata)
    generator = inverter.generator
    return Conversion(
        method=inverter.name,
        num_styles=generator.num_styles,
        resolution=generator.resolution,
        num_tensors=len(tensors),
        dropped=tuple(dropped),
        notes=tuple(notes),
    )


def _networks(inverter: SDIC | E4E) -> dict[str, nn.Module]:
    networks = inverter.networks if isinstance(inverter, SDIC) else {"encoder": inverter.encoder}
    return {**networks, "generator": inverter.generator}


def _read(path: str | Path) -> tuple[SDIC | E4E, list[str], list[str]]:
    """The inverter, the official keys that were dropped, and notes."""
    checkpoint = read_checkpoint(path)
    if "generator.input.input" in checkpoint:
        return _from_converted(checkpoint, str(path)), [], []
    return _from_official(checkpoint, str(path))


def _from_converted(tensors: dict[str, Tensor], what: str) -> SDIC | E4E:
    mean = tensors.pop("generator.mean_latent", None)
    state = part_of(tensors, "generator", what)
    generator = StyleGAN2.from_state({"state_dict": state, "latent_avg": mean}, what)
    encoder = _empty(E4EEncoder, generator.num_styles)
    load_strict(encoder, part_of(tensors, "encoder", what), f"{what}: encoder")
    if not any(key.startswith("dipn.") for key in tensors):
        return E4E(generator, _frozen(encoder))
    dipn, dicn = _compensation_networks(generator)
    load_strict(dipn, part_of(tensors, "dipn", what), f"{what}: dipn")
    load_strict(dicn, part_of(tensors, "dicn", what), f"{what}: dicn")
    return SDIC(generator, _frozen(encoder), _frozen(dipn), _frozen(dicn), "published")


def _from_official(
    checkpoint: dict[str, Any], what: str
) -> tuple[SDIC | E4E, list[str], list[str]]:
    parts, dropped = _split(checkpoint, what)
    with_compensation = "DIP" in parts or "SAF" in parts
    for name in PARTS if with_compensation else PARTS[:2]:
        if name not in parts:
            raise WeightsError(
                f"{what} is no complete SDIC or e4e checkpoint: there is nothing under '{name}.'. "
                "Use a complete official file."
            )
    generator = StyleGAN2.from_state(
        {"state_dict": parts["decoder"], "latent_avg": checkpoint.get("latent_avg")}, what
    )

    def fill(
        network: Network, part: str, rules: Mapping[str, str], unused: tuple[str, ...] = ()
    ) -> Network:
        keys = [key for key in network.state_dict() if key != "mean_latent"]
        name = f"{what}, part '{part}',"
        state, left = official.rename(parts[part], keys, rules, unused, name)
        dropped.extend(f"{part}.{key}" for key in left)
        if isinstance(network, E4EEncoder):
            state["mean_latent"] = mean
        load_strict(network, state, name)
        return _frozen(network)

    mean, notes = _mean_latents(checkpoint.get("latent_avg"), generator, with_compensation, what)
    encoder = fill(_empty(E4EEncoder, generator.num_styles), "encoder", official.ENCODER_RULES)
    if not with_compensation:
        return E4E(generator, encoder), dropped, notes
    dipn, dicn = _compensation_networks(generator)
    fill(dipn, "DIP", official.DIPN_RULES, official.DIPN_UNUSED)
    fill(dicn, "SAF", official.DICN_RULES, official.DICN_UNUSED)
    return SDIC(generator, encoder, dipn, dicn, "published"), dropped, notes


def _split(
    checkpoint: Mapping[str, Any], what: str
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors of each part by path, and the full names of those of training losses."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{what} has no 'state_dict'; expected an official SDIC or e4e checkpoint, "
            f"found {', '.join(list(map(str, checkpoint))[:5]) or 'nothing'}."
        )
    parts: dict[str, dict[str, Tensor]] = {}
    dropped: list[str] = []
    unknown: list[str] = []
    for key, tensor in state.items():
        part, _, path = str(key).partition(".")
        part = OLDER_NAMES.get(part, part)
        if part in PARTS:
            parts.setdefault(part, {})[path] = tensor
        else:
            (dropped if part in NOT_WEIGHTS else unknown).append(str(key))
    if unknown:
        raise WeightsError(
            f"{what} is no official SDIC or e4e checkpoint; {len(unknown)} keys have an unknown "
            f"prefix: {', '.join(unknown)}."
        )
    return parts, dropped


def _mean_latents(
    latent_avg: Tensor | None, generator: Generator, with_compensation: bool, what: str
) -> tuple[Tensor, list[str]]:
    """What is added to every code [S,512], and what there is to say about it."""
    num_styles = generator.num_styles
    if isinstance(latent_avg, Tensor):
        rows = latent_avg.reshape(-1, LATENT_DIM).float()
        if len(rows) != 1 and len(rows) < num_styles:
            raise WeightsError(
                f"{what} has a 'latent_avg' of {len(rows)} rows; expected 1 or {num_styles}."
            )
        return rows.expand(max(len(rows), num_styles), -1)[:num_styles].clone(), []
    if with_compensation:
        note = "The file has no 'latent_avg', so nothing is added to the codes of the encoder."
        return torch.zeros(num_styles, LATENT_DIM), [note]
    note = "The file has no 'latent_avg'; the mean of 10,000 mapped samples takes its place."
    return generator.mean_latent.expand(num_styles, -1).clone(), [note]


def _compensation_networks(generator: Generator) -> tuple[DIPN, DICN]:
    shape = generator.feature_shape
    return DIPN("published"), DICN(generator.num_styles, shape, "published")


def _empty(network: type[Network], *args: Any) -> Network:
    """A large network without the time to initialise what a checkpoint will fill."""
    with torch.device("meta"):
        built = network(*args)
    return built.to_empty(device="cpu")


def _frozen(network: Network) -> Network:
    return network.eval().requires_grad_(False)
