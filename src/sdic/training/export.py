"""From a run to one file: the averaged weights, with the recipe and the measures beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdic import weights
from sdic.errors import TrainingError
from sdic.files import check_writable, save_tensors
from sdic.training import checkpoint, packing
from sdic.training.curve import read_curve
from sdic.weights.cache import file_sha256
from sdic.weights.exported import FILES, FORMAT, entry


def export(run: Path, out: Path) -> dict[str, str]:
    """Write the averaged weights of a run's newest checkpoint as one safetensors file.

    Matrices and kernels are float16; vectors (biases, norms, statistics) stay float32, which costs
    next to nothing. Keys are "network.parameter". The metadata holds `recipe` (JSON), `files`
    (JSON, see `weights.exported`), `step`, and `metrics` (JSON, the newest row of curve.csv,
    measured on these averaged weights). No path of this machine is in it: the recipe's are cut down
    to their last names.

    Returns:
        The metadata.

    Raises:
        TrainingError: the run has no checkpoint, a weight is too large for float16, or the file
            cannot be written.
    """
    check_writable(out, TrainingError)
    found = checkpoint.latest(run)
    if found is None:
        raise TrainingError(f"There is no checkpoint in {run}; give the folder of a training run.")
    step, tensors, extra = checkpoint.load(found)
    if not isinstance(extra.get("recipe"), dict):
        raise TrainingError(f"{found} has no recipe in it; restore it, or export another run.")
    tensors = packing.unpack(tensors)
    exported = {}
    for name, value in tensors.items():
        if name.startswith("networks."):
            key = name.removeprefix("networks.")
            exported[key] = _reduced(key, tensors.get(f"ema.{key}", value))
    curve = [row for row in read_curve(run / "curve.csv") if int(row["step"]) <= step]
    metadata = {
        "format": FORMAT,
        "step": str(step),
        "recipe": json.dumps(_portable(extra["recipe"])),
        "files": json.dumps(_digests(extra["recipe"], exported)),
        "metrics": json.dumps(curve[-1] if curve else {}),
    }
    save_tensors(out, exported, metadata, TrainingError)
    return metadata


def _digests(recipe: dict[str, Any], exported: Iterable[str]) -> dict[str, str]:
    """The sha256 of the files that the exported networks stand on, by their keys in the recipe."""
    # An encoder that was trained stands on no other; its file was where it started.
    of_encoder = any(key.startswith("encoder.") for key in exported)
    digests = {}
    for key in FILES[1:] if of_encoder else FILES:
        named = entry(recipe, key)[2]
        if named and named not in weights.names() and Path(named).is_file():
            digests[key] = file_sha256(Path(named))
    return digests


def _portable(value: Any) -> Any:
    """A recipe's value with every path in it cut down to its last name."""
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(inner) for inner in value]
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value


def _reduced(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    if value.ndim < 2:
        return value.float()
    half = value.to(torch.float16)
    if not torch.isfinite(half).all():
        raise TrainingError(f"The weight '{key}' does not fit float16; the run has diverged.")
    return half
