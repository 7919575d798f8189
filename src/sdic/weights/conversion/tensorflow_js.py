"""Weights of TensorFlow.js: a JSON manifest, and a .bin with the values one after another.

The format is that of TFJS graph models: `weightsManifest` in model.json, or the manifest alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdic.errors import WeightsError

STORED = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "bool": "u1"}
QUANTISED = {"float16": "<f2", "uint8": "u1", "uint16": "<u2"}


def convert_tensorflow_js(files: Sequence[Path]) -> dict[str, Tensor]:
    """Tensors by their TensorFlow names and in its layouts (convolutions [H,W,in,out]).

    Quantised values are restored: float16 is widened, uint8 and uint16 become q * scale + min.

    Args:
        files: the JSON file, then the .bin file.

    Raises:
        WeightsError: the manifest cannot be read, or does not fit the .bin to the last byte.
    """
    manifest, binary = files
    try:
        return dict(_tensors(_listed_weights(manifest), binary.read_bytes()))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{manifest.name} and {binary.name} are not TensorFlow.js weights that can be read "
            f"({error}); a manifest that fits the values was expected."
        ) from error


def _listed_weights(manifest: Path) -> list[dict[str, Any]]:
    content = json.loads(manifest.read_text(encoding="utf-8"))
    groups = content["weightsManifest"] if isinstance(content, dict) else content
    return [weight for group in groups for weight in group["weights"]]


def _tensors(weights: list[dict[str, Any]], values: bytes) -> Iterator[tuple[str, Tensor]]:
    offset = 0
    for weight in weights:
        quantisation = weight.get("quantization")
        kind = QUANTISED[quantisation["dtype"]] if quantisation else STORED[weight["dtype"]]
        stored = np.frombuffer(values, kind, math.prod(weight["shape"]), offset)
        offset += stored.nbytes
        array = _restored(stored, quantisation) if quantisation else stored.copy()
        yield weight["name"], torch.from_numpy(array).reshape(weight["shape"])
    if offset != len(values):
        raise ValueError(f"{offset} bytes are listed and {len(values)} are there")


def _restored(stored: NDArray[Any], quantisation: dict[str, Any]) -> NDArray[np.float32]:
    values = stored.astype(np.float64)
    if stored.dtype.kind != "f":
        values = values * quantisation["scale"] + quantisation["min"]
    return values.astype(np.float32)
