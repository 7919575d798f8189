"""Directions of other projects: plain vectors for StyleGAN2-FFHQ in .npy and .pt files.

Nothing is unpickled beyond tensors. Row numbers of StyleGAN2 are turned into those of the mobile
generator, whose blocks merge rows differently but work at the same sides.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.errors import InputError
from sdic.generators.base import LATENT_DIM

STYLEGAN2_ROWS = 18  # of the 1024x1024 faces: row 0 is 4x4, rows 2k-1, 2k, 2k+1 serve 4*2**k
MOBILE_BLOCKS = 7
# What the readers raise over a file that is damaged or of another kind.
UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    BadZipFile,
    SafetensorError,
    pickle.UnpicklingError,
)
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
        InputError: the file is missing, of another kind, or holds more than plain tensors.
    """
    if not path.is_file():
        raise InputError(
            f"There is no file {path}; expected a direction (.npy, .pt, .safetensors)."
        )
    try:
        if path.suffix in (".npy", ".npz"):
            content = np.load(path, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"": torch.from_numpy(content).float()}
            return {key: torch.from_numpy(content[key]).float() for key in content.files}
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as plain tensors; expected a .npy, .pt or .safetensors file "
            "that holds arrays only. Files with other Python objects are refused for safety."
        ) from error
    if isinstance(content, Tensor):
        return {"": content.float()}
    if isinstance(content, dict) and all(isinstance(v, Tensor) for v in content.values()):
        return {str(key): value.float() for key, value in content.items()}
    raise InputError(
        f"{path} holds a {type(content).__name__}; expected a tensor or a dict of them."
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
