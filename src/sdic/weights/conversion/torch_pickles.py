"""State dicts saved by `torch.save`, read without unpickling anything but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdic.errors import WeightsError


def convert_torch_pickles(files: Sequence[Path]) -> dict[str, Tensor]:
    """State dicts under their own keys; of several files, prefixed by the file's stem and a dot."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        prefix = f"{file.stem}." if len(files) > 1 else ""
        for key, tensor in _state_dict(file).items():
            # Cloned, since safetensors refuses tensors that share memory.
            tensors[prefix + key] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensors


def _state_dict(file: Path) -> Mapping[str, Tensor]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{file.name} is not a checkpoint that can be read safely: a plain state dict was "
            "expected."
        ) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, Tensor) for value in loaded.values()
    ):
        raise WeightsError(f"{file.name} holds no plain state dict (names and tensors only).")
    return loaded
