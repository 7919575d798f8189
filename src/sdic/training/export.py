"""From a run to one file: the averaged weights, with the recipe and the measures beside them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from sdic.errors import TrainingError
from sdic.files import check_writable, save_tensors
from sdic.training import checkpoint, packing
from sdic.training.curve import read_curve
from sdic.weights.exported import FORMAT


def export(run: Path, out: Path) -> dict[str, str]:
    """Write the averaged weights of a run's newest checkpoint as one safetensors file.

    Matrices and kernels are float16; vectors (biases, norms, statistics) stay float32, which costs
    next to nothing. Keys are "network.parameter". The metadata holds `recipe` (JSON), `step`, and
    `metrics` (JSON, the newest row of curve.csv, measured on these averaged weights).

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
        "recipe": json.dumps(extra["recipe"]),
        "metrics": json.dumps(curve[-1] if curve else {}),
    }
    save_tensors(out, exported, metadata, TrainingError)
    return metadata


def _reduced(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    if value.ndim < 2:
        return value.float()
    half = value.to(torch.float16)
    if not torch.isfinite(half).all():
        raise TrainingError(f"The weight '{key}' does not fit float16; the run has diverged.")
    return half
