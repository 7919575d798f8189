"""Reading weight files that the user points at."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdic.errors import WeightsError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or PyTorch file, on the CPU, never unpickled unrestricted.

    A checkpoint that keeps its tensors under `state_dict` is unwrapped.

    Raises:
        WeightsError: the file is missing or is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weight file '{path}'; check the path.") from error
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise WeightsError(
            f"'{path}' cannot be read as weights; expected a state dict saved by PyTorch or a "
            ".safetensors file. Fetch it again from its source."
        ) from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise WeightsError(f"'{path}' holds no state dict; expected tensors by name.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
