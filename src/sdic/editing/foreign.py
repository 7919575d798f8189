"""Directions of other projects: plain vectors for StyleGAN2-FFHQ in .npy and .pt files.

Nothing is unpickled beyond tensors. Row numbers of StyleGAN2 are turned into those of the mobile
generator, whose blocks merge rows differently but work at the same sides.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.errors import InputError
from sdic.files import check_readable
from sdic.generators.base import LATENT_DIM
from sdic.weights.checkpoints import DAMAGES, read_plain

ARRAYS = (".npy", ".npz")
SUFFIXES = (*ARRAYS, ".pt", ".pth", ".safetensors")  # of files with directions
STYLEGAN2_ROWS = 18  # of the 1024x1024 faces: row 0 is 4x4, rows 2k-1, 2k, 2k+1 serve 4*2**k
MOBILE_BLOCKS = 7
LARGEST = 2**24  # numbers in all arrays of a file; a file of GANSpace components has 40,000
# For each of the 23 mobile rows, the StyleGAN2 row of the same layer; the last drives nothing.
MOBILE_FROM_STYLEGAN2 = (
    0,
    *(2 * block + offset for block in range(MOBILE_BLOCKS) for offset in (1, 2, 3)),
    None,
)


def mobile_rows(stylegan2_rows: Sequence[int]) -> tuple[int, ...]:
    """Rows of the mobile generator whose layers the given StyleGAN2 rows drive.

    Only rows that act are named: inner image heads and the last row do nothing there.

    Raises:
        InputError: no row of the mobile generator corresponds.
    """
    acting = {0, 3 * MOBILE_BLOCKS} | {3 * b + k for b in range(MOBILE_BLOCKS) for k in (1, 2)}
    rows = tuple(
        row
        for row, source in enumerate(MOBILE_FROM_STYLEGAN2)
        if row in acting and source in stylegan2_rows
    )
    if not rows:
        raise InputError(
            f"StyleGAN2 rows {list(stylegan2_rows)} have no counterpart in the mobile generator, "
            f"whose layers answer rows 0 to {2 * MOBILE_BLOCKS + 1}."
        )
    return rows


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .npy, .npz, .pt, .pth or .safetensors file, by name ("" if it has just one).

    Raises:
        InputError: the file is missing, of another kind, or holds more than arrays of real numbers.
        WeightsError: see `weights.checkpoints.read_plain`.
    """
    check_readable(path, "file of directions")
    content: Any = _read_numpy(path) if path.suffix.lower() in ARRAYS else read_plain(path)
    if isinstance(content, Tensor):
        content = {"": content}
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(
            f"{path} holds a {type(content).__name__}; expected a tensor or a dict of them."
        )
    for value in content.values():
        if value.is_complex() or value.dtype == torch.bool:
            raise _not_real(path, str(value.dtype))
    if sum(value.numel() for value in content.values()) > LARGEST:
        raise _too_large(path)
    return {str(key): value.detach().float() for key, value in content.items()}


def _read_numpy(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".npy":
                return {"": _read_array(file, path)}
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError("compressed as numpy does not")
                    read = sum(tensor.numel() for tensor in tensors.values())
                    with archive.open(member) as opened:
                        array = _read_array(opened, path, LARGEST - read)
                    tensors[member.filename.removesuffix(".npy")] = array
    except (*DAMAGES, SyntaxError, TokenError, zlib.error) as error:  # the header is Python
        raise InputError(
            f"{path} cannot be read as arrays: it is damaged, cut short or of another kind; "
            "expected a .npy or .npz file."
        ) from error
    return tensors


def _read_array(file: IO[bytes], path: Path, room: int = LARGEST) -> Tensor:
    """One .npy array as float32; what its header says is judged before memory is asked for."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # a third one is for names of fields alone
        raise ValueError("version of the format")
    read_header = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(file)
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _not_real(path, dtype.name)
    if not 0 <= prod(shape) <= room:  # reading a negative number of bytes would read all
        raise _too_large(path)
    numbers = np.frombuffer(file.read(prod(shape) * dtype.itemsize), dtype)
    array = numbers.reshape(shape, order="F" if by_columns else "C")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return torch.from_numpy(np.array(array, np.float32, order="C"))


def _not_real(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} holds values of type {found}; expected real numbers of at most 64 bits."
    )


def _too_large(path: Path) -> InputError:
    return InputError(
        f"{path} holds more than {LARGEST:,} numbers; a direction has {LATENT_DIM} for each row."
    )


def as_vector(tensor: Tensor, source: str) -> Tensor:
    """A direction as [512] or [rows,512] from [512], [1,512], [rows,512] or [1,rows,512].

    Equal rows become one [512], which then fits a generator with any number of rows.

    Raises:
        InputError: the tensor has another shape, is zero, or is not finite.
    """
    vector = tensor.squeeze(0) if tensor.ndim == 3 and len(tensor) == 1 else tensor
    if vector.ndim not in (1, 2) or vector.shape[-1] != LATENT_DIM or not len(vector):
        raise InputError(
            f"{source} has shape {list(tensor.shape)}; expected {LATENT_DIM}, 1x{LATENT_DIM} or "
            f"rows x {LATENT_DIM}."
        )
    if not vector.isfinite().all() or not vector.any():
        raise InputError(f"{source} is zero or not finite; a direction has a length.")
    if vector.ndim == 2 and torch.equal(vector, vector[:1].expand_as(vector)):
        vector = vector[0]
    return vector.clone()


def read_foreign(
    path: Path, generator: str = "mobile", name: str | None = None, key: str = ""
) -> Direction:
    """A direction from a plain vector file, for a generator with the W space of StyleGAN2-FFHQ.

    Args:
        path: .npy, .pt or .pth file; see `as_vector` for the shapes.
        generator: key of the generator it shall be used with. A vector with 18 different rows is
            spread over the rows of the mobile generator by layer.
        name: name of the direction; None is the file's own, in lower case.
        key: which tensor, in a file that holds several.

    Raises:
        InputError: the file cannot be used.
        WeightsError: see `weights.checkpoints.read_plain`.
    """
    tensors = read_tensors(path)
    if key not in tensors and len(tensors) != 1:
        raise InputError(f"{path} holds several tensors; choose one of: {', '.join(tensors)}.")
    tensor = tensors[key] if key in tensors else next(iter(tensors.values()))
    vector = as_vector(tensor, str(path))
    if vector.ndim == 2 and generator == "mobile" and len(vector) == STYLEGAN2_ROWS:
        zero = torch.zeros(LATENT_DIM)
        vector = torch.stack(
            [zero if row is None else vector[row] for row in MOBILE_FROM_STYLEGAN2]
        )
    return Direction(
        name=name or path.stem.lower().replace(" ", "-"),
        vector=vector,
        generator=generator,
        source=f"imported from {path.name}",
    )
