"""One inversion, one file: `*.sdic.safetensors`, tensors by name and everything else as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from sdic.errors import InputError
from sdic.files import read_tensors, save_tensors
from sdic.methods.base import INVERSION_SIZE, Inversion

SUFFIX = ".sdic.safetensors"
FORMAT = "sdic-inversion"
VERSION = 1
WEIGHTS_PREFIX = "weights."
# Key of the one text that safetensors keeps beside the tensors: a JSON object.
HEADER = "sdic"


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
    if inversion.photo is not None:
        tensors["photo"] = inversion.photo
    tensors |= {WEIGHTS_PREFIX + name: value for name, value in inversion.weights.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "method": inversion.method,
        "generator": inversion.generator,
        "metadata": inversion.metadata,
    }
    save_tensors(path, tensors, {HEADER: json.dumps(header, ensure_ascii=False, sort_keys=True)})


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
    return _assemble(header, tensors, path)


def _read_header(text: str | None, path: Path) -> dict[str, Any]:
    foreign = InputError(
        f"'{path}' holds no inversion; expected a file that this program saved as *{SUFFIX}."
    )
    if text is None:
        raise foreign
    try:
        header = json.loads(text)
    except ValueError as error:
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
    metadata = header.get("metadata")
    texts = [header.get("method"), header.get("generator")]
    if isinstance(metadata, dict):
        texts += [*metadata, *metadata.values()]
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in texts):
        raise foreign
    return header


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> Inversion:
    weights = {
        name.removeprefix(WEIGHTS_PREFIX): value
        for name, value in tensors.items()
        if name.startswith(WEIGHTS_PREFIX)
    }
    known = {"latents", "base_latents", "features", "reconstruction", "photo"}
    latents, images = tensors.get("latents"), tensors.get("reconstruction")
    features, photo = tensors.get("features"), tensors.get("photo")
    base = tensors.get("base_latents", latents)
    whole = (
        latents is not None
        and images is not None
        and base is not None
        and latents.ndim == 3
        and base.shape == latents.shape
        and images.shape == (len(latents), 3, INVERSION_SIZE, INVERSION_SIZE)
        and (features is None or (features.ndim == 4 and len(features) == len(latents)))
        and (photo is None or photo.shape == images.shape)
        and len(tensors) == len(weights) + len(known & set(tensors))
    )
    if not whole or latents is None or images is None or base is None:
        raise InputError(
            f"'{path}' lacks tensors of an inversion, or has others: {', '.join(sorted(tensors))}. "
            "Make it again from the photo."
        )
    return Inversion(
        header["method"],
        header["generator"],
        latents,
        base,
        features,
        images,
        weights,
        header["metadata"],
        photo,
    )
