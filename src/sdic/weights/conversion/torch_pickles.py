"""State dicts saved by `torch.save`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdic.errors import WeightsError
from sdic.weights.checkpoints import read_checkpoint


def convert_torch_pickles(files: Sequence[Path]) -> dict[str, Tensor]:
    """State dicts under their own keys; of several files, prefixed by the file's stem and a dot."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        state = read_checkpoint(file)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise WeightsError(f"{file.name} holds no plain state dict (names and tensors only).")
        prefix = f"{file.stem}." if len(files) > 1 else ""
        for key, tensor in state.items():
            # Cloned, since safetensors refuses tensors that share memory.
            tensors[prefix + key] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensors
