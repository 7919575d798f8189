"""One inversion, one file: `*.sdic.safetensors`, tensors by name and everything else as text."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sdic.errors import InputError
from sdic.files import read_metadata, read_tensors, save_tensors
from sdic.generators.base import LATENT_DIM, Identity
from sdic.methods.base import INVERSION_SIZE, Inversion

SUFFIX = ".sdic.safetensors"
FORMAT = "sdic-inversion"
VERSION = 2
WEIGHTS_PREFIX, EXTRAS_PREFIX = "weights.", "extras."
# Key of the one text that safetensors keeps beside the tensors: a JSON object.
HEADER = "sdic"
NUMBERS = (torch.float32, torch.float16, torch.bfloat16)
IDENTITY = {entry.name for entry in fields(Identity)}


def save_inversion(inversion: Inversion, path: Path | str) -> None:
    """Write an inversion; the file is there whole or not at all.

    Args:
        inversion: on any device.
        path: a path, or its text; ends in `.sdic.safetensors`; an older file there is replaced.

    Raises:
        InputError: the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(
            f"An inversion cannot be saved as '{path}'; its name must end in {SUFFIX}."
        )
    tensors = {"latents": inversion.latents, "reconstruction": inversion.reconstruction}
    # Methods without compensation have the same codes twice.
    same = inversion.base_latents.equal(inversion.latents)
    if not same:
        tensors["base_latents"] = inversion.base_latents
    if inversion.features is not None:
        tensors["features"] = inversion.features
    tensors |= {WEIGHTS_PREFIX + name: value for name, value in inversion.weights.items()}
    tensors |= {EXTRAS_PREFIX + name: value for name, value in inversion.extras.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "method": inversion.method,
        "generator": asdict(inversion.generator),
        "metadata": inversion.metadata,
    }
    # In ASCII, since the name of a photo may have bytes that are not UTF-8.
    save_tensors(path, tensors, {HEADER: json.dumps(header, sort_keys=True)})


def load_inversion(path: Path | str) -> Inversion:
    """Read an inversion, onto the CPU; nothing in the file is executed.

    Raises:
        InputError: there is no such file; it is not an inversion, is cut short, or was written by
            a newer version.
    """
    path = Path(path)
    try:
        tensors, texts = read_tensors(path)
        header = _read_header(texts.get(HEADER), path)
    except FileNotFoundError as error:
        raise InputError(f"There is no inversion '{path}'; check the path.") from error
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"'{path}' is not a whole safetensors file; expected an inversion ({SUFFIX}) that was "
            "saved to the end. Make it again from the photo."
        ) from error
    # Cloned: in the file's own memory tensors lie at odd places, from which some processors sum in
    # another order, and an edit would differ from that of the inversion before it was saved.
    return _assemble(header, {name: value.clone() for name, value in tensors.items()}, path)


def load_metadata(path: Path) -> dict[str, str]:
    """The texts of an inversion file, without its tensors.

    Raises:
        InputError: see `load_inversion`.
    """
    try:
        header = _read_header(read_metadata(path).get(HEADER), path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{path}' cannot be read; make it again from the photo.") from error
    metadata: dict[str, str] = header["metadata"]
    return metadata


def _read_header(text: str | None, path: Path) -> dict[str, Any]:
    foreign = InputError(
        f"'{path}' holds no inversion; expected a file that this program saved as *{SUFFIX}."
    )
    if text is None:
        raise foreign
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise foreign
    version = header.get("version")
    if not isinstance(version, int):
        raise foreign
    if version > VERSION:
        raise InputError(
            f"'{path}' has version {version} of the inversion format; this program reads up to "
            f"{VERSION}. Install a newer version of sdic."
        )
    if isinstance(header.get("generator"), str):  # version 1 knew a generator's family alone
        family = header["generator"]
        header["generator"] = {"family": family, "domain": "faces", "space": "", "fingerprint": ""}
    metadata, generator = header.get("metadata"), header.get("generator")
    if not isinstance(generator, dict) or set(generator) != IDENTITY:
        raise foreign
    texts = [header.get("method"), *generator.values()]
    if isinstance(metadata, dict):
        texts += [*metadata, *metadata.values()]
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in texts):
        raise foreign
    return header


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> Inversion:
    odd = [name for name, value in tensors.items() if value.dtype not in NUMBERS]
    if odd:
        raise InputError(
            f"'{path}' holds tensors of type {tensors[odd[0]].dtype} ({', '.join(odd)[:200]}); "
            "expected real numbers of 16 or 32 bits. Make it again from the photo."
        )
    tensors = {name: value.float() for name, value in tensors.items()}
    weights, extras = (
        {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        for prefix in (WEIGHTS_PREFIX, EXTRAS_PREFIX)
    )
    if "photo" in tensors:  # version 1
        extras["photo"] = tensors.pop("photo")
        tensors[EXTRAS_PREFIX + "photo"] = extras["photo"]
    known = {"latents", "base_latents", "features", "reconstruction"}
    latents, images = tensors.get("latents"), tensors.get("reconstruction")
    features = tensors.get("features")
    base = tensors.get("base_latents", latents)
    whole = (
        latents is not None
        and images is not None
        and base is not None
        and latents.ndim == 3
        and min(latents.shape) > 0
        and latents.shape[2] == LATENT_DIM
        and base.shape == latents.shape
        and images.shape == (len(latents), 3, INVERSION_SIZE, INVERSION_SIZE)
        and (features is None or (features.ndim == 4 and len(features) == len(latents)))
        and ("photo" not in extras or extras["photo"].shape == images.shape)
        and len(tensors) == len(weights) + len(extras) + len(known & set(tensors))
    )
    if not whole or latents is None or images is None or base is None:
        raise InputError(
            f"'{path}' lacks tensors of an inversion, or has others: "
            f"{', '.join(sorted(tensors))[:500]}. Make it again from the photo."
        )
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(
            f"'{path}' holds numbers that are not finite ({', '.join(broken)[:200]}); make it "
            "again from the photo."
        )
    return Inversion(
        header["method"],
        Identity(**header["generator"]),
        latents,
        base,
        features,
        images,
        weights,
        header["metadata"],
        extras,
    )
