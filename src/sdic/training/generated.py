"""Faces of a generator, made once and kept on the disk: their w is known, and a step only reads.

Face i depends on the generator, the truncation and i alone, so its w is computed anew from i and
only the pixels are kept, in files of `SHARD` faces each, whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import Tensor

from sdic import images
from sdic.errors import TrainingError
from sdic.files import make_folder, write_whole
from sdic.generators.base import LATENT_DIM, Generator
from sdic.runtime.allocator import release_memory
from sdic.training.data import full_precision, seeded

SHARD = 100  # faces in a file; 20 MB at 256x256
CHUNK = 4  # faces made at once

# Called after each file with the number of faces that are there and the number wanted.
Report = Callable[[int, int], None]


class GeneratedFaces:
    """The first M faces of a generator: pixels from the disk, and their w.

    Args:
        shards: uint8 [SHARD,3,H,W] each.
        latents: w [M,512].
    """

    def __init__(self, shards: Sequence[npt.NDArray[np.uint8]], latents: Tensor) -> None:
        self._shards = shards
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def at(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Faces by number: images [N,3,H,W] in [-1,1], and their w [N,512]."""
        pixels = np.stack([self._shards[i // SHARD][i % SHARD] for i in indices])
        made = torch.from_numpy(pixels).float().div_(127.5).sub_(1)
        return made, self.latents[list(indices)]

    @classmethod
    def open(
        cls,
        generator: Generator,
        count: int,
        truncation: float,
        size: int,
        cache: Path,
        report: Report | None = None,
    ) -> GeneratedFaces:
        """The first `count` faces; those that are not in the cache folder yet are made.

        Args:
            generator: at any precision; bf16 changes pixels by 0.002 on average.
            count: M.
            truncation: of w.
            size: side of the images.
            cache: folder for all such faces; several processes may share it.
            report: see `Report`.

        Raises:
            TrainingError: the cache folder cannot be written.
        """
        latents = _latents(generator, count, truncation)
        folder = cache / f"{generator.name}-{_digest(generator, truncation)}-{size}"
        make_folder(folder, TrainingError)
        shards = []
        for first in range(0, count, SHARD):
            file = folder / f"faces-{first // SHARD:05d}.npy"
            with FileLock(f"{file}.lock"):
                if not file.exists():
                    _make(generator, _latents(generator, SHARD, truncation, first), size, file)
            shards.append(np.load(file, mmap_mode="r"))
            if report is not None:
                report(min(first + SHARD, count), count)
        return cls(shards, latents.cpu())


@torch.no_grad()
def _latents(generator: Generator, count: int, truncation: float, first: int = 0) -> Tensor:
    rows = [torch.randn(LATENT_DIM, generator=seeded("generated", first + i)) for i in range(count)]
    mean = generator.mean_latent
    with full_precision(mean.device):
        w = generator.mapping(torch.stack(rows).to(mean))
        return generator.truncate(w, truncation)


def _digest(generator: Generator, truncation: float) -> str:
    """Names a generator by what its mapping makes of two z, rounded, and the truncation."""
    w = _latents(generator, 2, 1.0).mul(100).round().int()
    return hashlib.sha256(w.cpu().numpy().tobytes() + f"{truncation:g}".encode()).hexdigest()[:12]


@torch.no_grad()
def _make(generator: Generator, latents: Tensor, size: int, file: Path) -> None:
    parts = []
    for part in torch.split(latents, CHUNK):
        made = generator(generator.broadcast(part), size)
        parts.append(images.to_uint8(made.float()).transpose(0, 3, 1, 2))
        release_memory()
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(parts))
    write_whole(file, buffer.getvalue(), TrainingError, "ask for fewer faces with data.generated")
