"""The restricted reader of checkpoints that a user brings: tensors and plain values, never code."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sdic.errors import InputError, WeightsError

SHOWN = 10  # keys named in an error
# What the unpickler stumbles over in a damaged file, beside its own error.
DAMAGES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint (`torch.save` file or .safetensors) to the CPU.

    A pickle may build tensors, containers, plain values and `argparse.Namespace` (the options that
    training scripts keep beside their weights), and nothing else.

    Raises:
        InputError: there is no such file, or it may not be read.
        WeightsError: the file is damaged, is no checkpoint, or asks to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint file at {path}; give the path of one.")
    if not os.access(path, os.R_OK):
        raise InputError(f"The checkpoint file {path} may not be read; change its permissions.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds one {type(content).__name__}, not named weights; "
            "expected a file with a state dict."
        )
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a complete safetensors file ({error}). Fetch it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise WeightsError(
                f"{path} wants to run code ({asked[1]}) when it is read, and is refused: "
                "expected tensors and plain values only. Ask its author for a file of weights."
            ) from error
        raise WeightsError(_not_a_checkpoint(path)) from error
    except DAMAGES as error:
        raise WeightsError(_not_a_checkpoint(path)) from error


def _not_a_checkpoint(path: Path) -> str:
    return (
        f"{path} cannot be read as a checkpoint: it is damaged, cut short or of another kind; "
        "expected a PyTorch or .safetensors file. Fetch it again."
    )


def part_of(state: Mapping[str, Any], prefix: str, what: str) -> dict[str, Tensor]:
    """The tensors under `prefix.`, without it.

    Raises:
        WeightsError: there are none.
    """
    start = f"{prefix}."
    part = {
        key.removeprefix(start): value
        for key, value in state.items()
        if str(key).startswith(start) and isinstance(value, Tensor)
    }
    if not part:
        raise WeightsError(
            f"{what} has no weights under '{start}'; found {_names(sorted(map(str, state)))}."
        )
    return part


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], what: str, dead: Sequence[str] = ()
) -> list[str]:
    """Load a state dict that must fit the module key by key and shape by shape.

    Args:
        module: the network to fill.
        state: its weights by name.
        what: the name of the weights in errors.
        dead: keys, or parts of the network by their prefix, that the file may hold in surplus.

    Returns:
        The keys that were dropped for `dead`, so that the caller can say so.

    Raises:
        WeightsError: keys are missing or in surplus, or shapes differ.
    """
    expected = module.state_dict()
    surplus = [key for key in state if key not in expected]
    dropped = [key for key in surplus if any(f"{key}.".startswith(f"{d}.") for d in dead)]
    surplus = [key for key in surplus if key not in set(dropped)]
    missing = [key for key in expected if key not in state]
    shapes = [
        f"{key} is {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        f"{len(names)} {kind}: {_names(names)}"
        for kind, names in (("missing", missing), ("surplus", surplus), ("of other shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{what} does not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Use the file that was made for this network."
        )
    module.load_state_dict({key: state[key] for key in expected})
    return dropped


def _names(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
