"""Checkpoints: a folder of small safetensors pieces and one index, written whole or not at all.

A checkpoint is written into a folder with a temporary name, flushed to the disk, and renamed. A
process killed at any moment thus leaves either the old checkpoint or the new one. The pieces hold
at most 16 MB each, so that they pass where large files do not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from sdic.errors import TrainingError

PIECE_BYTES = 16_000_000
_HEADER_BYTES = 200  # generous allowance for one tensor's entry in a safetensors header
_FORMAT = 1
_PIECE = re.compile(r"piece-[0-9]{3,6}\.safetensors")
_NAME = re.compile(r"checkpoint-([0-9]{8,12})")
# What reading an index stumbles over where somebody changed it.
DAMAGES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a step, then remove older ones.

    Args:
        folder: the run's folder; it is made if needed.
        step: steps done.
        tensors: by name; stored exactly, in the order given.
        extra: whatever else is kept, as JSON.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the last checkpoint stays.
    """
    target = folder / f"checkpoint-{step:08d}"
    temporary = folder / f".checkpoint-{step:08d}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, step, tensors, extra)
        if target.exists():
            _remove(target)
        temporary.rename(target)
        _flush(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = latest(folder)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise TrainingError(
            f"The checkpoint of step {step} cannot be written to {folder}: "
            f"{'the disk is full' if full else error.strerror or error}. "
            + (f"{kept.name} is kept; " if kept else "There is no earlier one; ")
            + f"{'free some space' if full else 'make the folder writable'} and run again."
        ) from error
    for old in _checkpoints(folder)[:-1]:
        with contextlib.suppress(OSError):
            _remove(old)
    for partial in folder.glob(".checkpoint-*"):
        shutil.rmtree(partial, ignore_errors=True)
    return target


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run, or None.

    Raises:
        TrainingError: it has no index, so it is damaged: the run must not start anew unasked.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    if not (found[-1] / "index.json").is_file():
        raise TrainingError(
            f"{found[-1]} has no index.json, so it is damaged; restore it, or delete the folder to "
            "go on without it."
        )
    return found[-1]


def load(checkpoint: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: (steps done, tensors, extra).

    Raises:
        TrainingError: a piece or the index is missing or damaged.
    """
    try:
        index = json.loads((checkpoint / "index.json").read_text("utf-8"))
        if index["format"] != _FORMAT:
            raise TrainingError(
                f"{checkpoint} has format {index['format']}; this version reads {_FORMAT}. "
                "Update sdic."
            )
        pieces: dict[str, Tensor] = {}
        for name, digest in index["pieces"].items():
            if not _PIECE.fullmatch(name):
                raise ValueError
            content = (checkpoint / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise TrainingError(f"{checkpoint / name} is damaged; restore it or start anew.")
            pieces.update(load_bytes(content))
        tensors = {}
        for name, (shape, parts) in index["tensors"].items():
            flat = [pieces[f"{name}@{i}"] for i in range(parts)]
            tensors[name] = (flat[0] if parts == 1 else torch.cat(flat)).view(shape)
        return int(index["step"]), tensors, dict(index["extra"])
    except (*DAMAGES, SafetensorError) as error:
        reason = error if isinstance(error, OSError) else "its index or a piece is damaged"
        raise TrainingError(
            f"{checkpoint} cannot be read ({reason}); restore it or start a new run."
        ) from error


def _write(
    folder: Path, step: int, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]
) -> None:
    digests: dict[str, str] = {}
    parts: dict[str, tuple[list[int], int]] = {}
    for piece in _pieces(tensors, parts):
        name = f"piece-{len(digests):03d}.safetensors"
        content = save_bytes(piece)
        digests[name] = hashlib.sha256(content).hexdigest()
        _write_file(folder / name, content)
    index = {
        "format": _FORMAT,
        "step": step,
        "pieces": digests,
        "tensors": parts,
        "extra": extra,
    }
    _write_file(folder / "index.json", json.dumps(index, indent=1).encode())
    _flush(folder)


def _pieces(
    tensors: Mapping[str, Tensor], parts: dict[str, tuple[list[int], int]]
) -> Iterator[dict[str, Tensor]]:
    """Cut tensors into flat parts and gather them greedily; fills `parts` on the way."""
    piece: dict[str, Tensor] = {}
    room = PIECE_BYTES
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().view(-1)
        chunk = max(1, (PIECE_BYTES - _HEADER_BYTES) // tensor.element_size())
        chunks = torch.split(flat, chunk) if len(flat) else (flat,)
        parts[name] = (list(tensor.shape), len(chunks))
        for i, part in enumerate(chunks):
            size = part.numel() * part.element_size() + _HEADER_BYTES
            if piece and size > room:
                yield piece
                piece, room = {}, PIECE_BYTES
            piece[f"{name}@{i}"] = part.clone() if len(chunks) > 1 else part
            room -= size
    if piece:
        yield piece


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checkpoints(folder: Path) -> list[Path]:
    """Folders of checkpoints, oldest first."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"The run's folder {folder} cannot be read ({error}); give another one."
        ) from error
    found = [(int(match[1]), match[0]) for name in names if (match := _NAME.fullmatch(name))]
    return [folder / name for _, name in sorted(found)]


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; what a kill leaves of it no longer has its name."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    checkpoint.rename(hidden)
    shutil.rmtree(hidden)
