"""Official checkpoints: read, checked key by key, converted to safetensors.

An official file holds `state_dict`, whose keys begin with the name of a part (encoder, decoder, for
SDIC also DIP and SAF), `latent_avg`, the mean latent that is added to every code, and `opts`. Faces
have 18 style rows and 1024x1024 pixels, cars 16 rows and 512x512. Which parts make which method,
and how the names in a part become ours, a method's own file declares (`declaration.Official`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdic.errors import InputError, WeightsError
from sdic.files import read_metadata, save_tensors
from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods.base import Inverter
from sdic.methods.declaration import Method, Official
from sdic.weights.checkpoints import load_strict, part_of, read_checkpoint

# Networks of the training losses, which an official file carries along.
LOSS_PARTS = ("id_loss", "lpips_loss")
CONVERTED = "generator.input.input"  # a key that files of `convert_checkpoint` have

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Conversion:
    """What became of an official checkpoint.

    Attributes:
        method: key of the method.
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


@dataclass
class _Reading:
    """A file on its way to a method."""

    inverter: Inverter
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_official(path: str | Path, shelf: Sequence[Method]) -> Inverter:
    """An official checkpoint, or what `convert_checkpoint` made of one, ready to run.

    All networks are frozen, in eval mode, on the CPU.

    Args:
        path: the file.
        shelf: the methods whose files are known.

    Raises:
        InputError: there is no such file.
        WeightsError: the file cannot be read, or does not fit the published networks; the keys in
            the way are named.
    """
    return _read(path, shelf).inverter


def convert_checkpoint(path: str | Path, out: str | Path, shelf: Sequence[Method]) -> Conversion:
    """Convert an official checkpoint to one safetensors file.

    Args:
        path: the official file.
        out: the file to write; its name ends in .safetensors.
        shelf: the methods whose files are known.

    Raises:
        InputError: there is no such file, or `out` cannot be written.
        WeightsError: see `load_official`.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"{out} does not end in .safetensors; choose such a name for the output.")
    reading = _read(path, shelf)
    inverter, generator = reading.inverter, reading.inverter.generator
    tensors = {
        f"{part}.{key}": tensor
        for part, network in {**inverter.networks, "generator": generator}.items()
        for key, tensor in network.state_dict().items()
    }
    tensors["generator.mean_latent"] = generator.mean_latent
    save_tensors(out, tensors, {"method": inverter.name, "preset": "published"})
    return Conversion(
        method=inverter.name,
        num_styles=generator.num_styles,
        resolution=generator.resolution,
        num_tensors=len(tensors),
        dropped=tuple(reading.dropped),
        notes=tuple(reading.notes),
    )


def _read(path: str | Path, shelf: Sequence[Method]) -> _Reading:
    checkpoint = read_checkpoint(path)
    layouts = {method.name: method.official for method in shelf if method.official is not None}
    if CONVERTED not in checkpoint:
        return _from_official(checkpoint, list(layouts.values()), str(path))
    name = read_metadata(Path(path)).get("method", "")
    if name not in layouts:
        raise WeightsError(
            f"{path} was converted of a file of the method '{name}', which is not known here; "
            "convert the official file again."
        )
    return _from_converted(checkpoint, layouts[name], str(path))


def _from_converted(tensors: dict[str, Tensor], layout: Official, what: str) -> _Reading:
    mean = tensors.pop("generator.mean_latent", None)
    state = part_of(tensors, "generator", what)
    generator = StyleGAN2.from_state({"state_dict": state, "latent_avg": mean}, what)

    def fill(network: Network, name: str, *_: Any, **__: Any) -> Network:
        load_strict(network, part_of(tensors, name, what), f"{what}: {name}")
        return network.eval().requires_grad_(False)

    return _Reading(layout.build(generator, fill))


def _from_official(checkpoint: dict[str, Any], layouts: Sequence[Official], what: str) -> _Reading:
    parts, dropped = _split(checkpoint, layouts, what)
    layout = _layout_of(parts, layouts, what)
    average = checkpoint.get("latent_avg")
    generator = StyleGAN2.from_state({"state_dict": parts["decoder"], "latent_avg": average}, what)
    mean, notes = _mean_latents(average, generator, layout.zero_mean, what)

    def fill(
        network: Network,
        name: str,
        part: str,
        rules: Mapping[str, str],
        unused: tuple[str, ...] = (),
        **own: Tensor,
    ) -> Network:
        state = network.state_dict()
        if "mean_latent" in state:
            own = {"mean_latent": mean, **own}
        keys = [key for key in state if key not in own]
        title = f"{what}, part '{part}',"
        renamed, left = rename(parts[part], keys, rules, unused, title)
        dropped.extend(f"{part}.{key}" for key in left)
        load_strict(network, renamed | own, title)
        return network.eval().requires_grad_(False)

    return _Reading(layout.build(generator, fill), dropped, notes)


def _split(
    checkpoint: Mapping[str, Any], layouts: Sequence[Official], what: str
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors of each part by path, and the full names of those of training losses."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{what} has no 'state_dict'; expected an official SDIC or e4e checkpoint, "
            f"found {', '.join(list(map(str, checkpoint))[:5]) or 'nothing'}."
        )
    known = {part for layout in layouts for part in layout.parts}
    older = {old: new for layout in layouts for old, new in (layout.older or {}).items()}
    parts: dict[str, dict[str, Tensor]] = {}
    dropped: list[str] = []
    unknown: list[str] = []
    for key, tensor in state.items():
        part, _, path = str(key).partition(".")
        part = older.get(part, part)
        if part in known:
            parts.setdefault(part, {})[path] = tensor
        else:
            (dropped if part in LOSS_PARTS else unknown).append(str(key))
    if unknown:
        raise WeightsError(
            f"{what} is no official SDIC or e4e checkpoint; {len(unknown)} keys have an unknown "
            f"prefix: {', '.join(unknown)}."
        )
    return parts, dropped


def _layout_of(parts: Mapping[str, object], layouts: Sequence[Official], what: str) -> Official:
    """The smallest layout that has a place for all parts; each of its own has to be there."""
    fitting = [layout for layout in layouts if set(parts) <= set(layout.parts)]
    layout = min(fitting, key=lambda layout: len(layout.parts))
    for name in layout.parts:
        if name not in parts:
            raise WeightsError(
                f"{what} is no complete SDIC or e4e checkpoint: there is nothing under '{name}.'. "
                "Use a complete official file."
            )
    return layout


def _mean_latents(
    latent_avg: Tensor | None, generator: Generator, zero_mean: bool, what: str
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
    if zero_mean:
        note = "The file has no 'latent_avg', so nothing is added to the codes of the encoder."
        return torch.zeros(num_styles, LATENT_DIM), [note]
    note = "The file has no 'latent_avg'; the mean of 10,000 mapped samples takes its place."
    return generator.mean_latent.expand(num_styles, -1).clone(), [note]


def official_key(key: str, rules: Mapping[str, str]) -> str:
    """The official path of one of our parameters, by the rule with the longest beginning."""
    fitting = [(ours, official) for official, ours in rules.items() if key.startswith(ours)]
    ours, official = max(fitting, key=lambda rule: len(rule[0]), default=("", ""))
    return official + key[len(ours) :]


def rename(
    state_dict: Mapping[str, Tensor],
    keys: Iterable[str],
    rules: Mapping[str, str],
    unused: Iterable[str],
    what: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the tensors of one official module our names.

    Args:
        state_dict: official paths without the module's prefix, and their tensors.
        keys: our names of all parameters and buffers that the module needs.
        rules: the rule table of the module.
        unused: prefixes of official paths to leave out.
        what: the module of the file, for errors.

    Returns:
        The tensors by our names, and the official paths that were left out.

    Raises:
        WeightsError: official paths are missing or in surplus; it names them.
    """
    ours = {official_key(key, rules): key for key in keys}
    surplus = [key for key in state_dict if key not in ours]
    dropped = [key for key in surplus if key.startswith(tuple(unused))]
    surplus = [key for key in surplus if key not in set(dropped)]
    missing = [key for key in ours if key not in state_dict]
    problems = [
        f"{len(names)} {kind}: {', '.join(names)}"
        for kind, names in (("missing", missing), ("surplus", surplus))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{what} is not the published network; {'; '.join(problems)}. "
            "Use a complete, unchanged official file."
        )
    return {ours[key]: state_dict[key] for key in ours}, dropped
