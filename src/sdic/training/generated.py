"""Faces of a generator, made once and kept on the disk: their w is known, and a step only reads.

Face i depends on the generator, the truncation and i alone, so its w is computed anew from i and
only the pixels are kept, in files of `SHARD` faces each, whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from sdic import images
from sdic.errors import TrainingError
from sdic.files import write_whole
from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.runtime.allocator import release_memory
from sdic.runtime.backends import accelerate
from sdic.training.data import from_pixels, full_precision, map_pixels, private, seeded

SHARD = 100  # faces in a file; 20 MB at 256x256
CHUNK = 4  # faces made at once

# Called after each file with the number of faces that are there and the number wanted.
Report = Callable[[int, int], None]


class GeneratedFaces:
    """The first M faces of a generator: pixels from the disk, and their w.

    Args:
        shards: uint8 [SHARD,3,H,W] each.
        latents: w [M,512], on the CPU.
    """

    def __init__(self, shards: Sequence[images.Pixels], latents: Tensor) -> None:
        self._shards = shards
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def at(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Faces by number: images [N,3,H,W] in [-1,1], and their w [N,512]."""
        pixels = np.stack([self._shards[i // SHARD][i % SHARD] for i in indices])
        return from_pixels(pixels), self.latents[list(indices)]

    @classmethod
    def open(
        cls,
        generator: Generator,
        folder: Path,
        count: int,
        truncation: float,
        size: int,
        report: Report | None = None,
    ) -> GeneratedFaces:
        """The first `count` faces; those that are not in the folder yet are made.

        Args:
            generator: fused or not, at any precision; bf16 changes pixels by 0.002 on average.
            folder: see `folder_of`; several processes may share it.
            count: M.
            truncation: of w.
            size: side of the images.
            report: see `Report`.

        Raises:
            TrainingError: the folder cannot be written, or a file in it is damaged.
        """
        private(folder)
        lock = FileLock(folder / ".lock")
        shards = []
        for first in range(0, count, SHARD):
            file = folder / f"faces-{first // SHARD:05d}.npy"
            if not file.exists():
                with lock:
                    if not file.exists():
                        _make(generator, first, truncation, size, file)
            shards.append(map_pixels(file, (SHARD, 3, size, size)))
            if report is not None:
                report(min(first + SHARD, count), count)
        return cls(shards, _latents(generator, range(count), truncation).cpu())


def folder_of(cache: Path, generator: Generator, truncation: float, size: int) -> Path:
    """The folder of a generator's faces: named by its weights, the truncation and the size.

    Args:
        cache: folder for the faces of all generators.
        generator: as `sdic.generators.create` makes it, not fused and in f32, so that the name does
            not depend on how the faces are made.
        truncation: of w.
        size: side of the images.
    """
    fingerprint = generator.identity.fingerprint
    return cache / f"{generator.name}-{fingerprint}-{truncation:g}-{size}"


def quickest(generator: Generator, device: str) -> Generator:
    """A generator as it makes faces in the shortest time on a device; it is changed in place.

    The mobile one is fused and runs in bf16 where the device has units for that; others, and
    elsewhere, the backend is the best that is installed.
    """
    if isinstance(generator, MobileStyleGAN) and _multiplies_bf16(device):
        return to_bfloat16(fuse(generator)).to(device)
    return accelerate(generator, device=device)


def _multiplies_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device == "cpu" and supported is not None and bool(supported())


@torch.no_grad()
def _latents(generator: Generator, numbers: range, truncation: float) -> Tensor:
    z = torch.stack([torch.randn(LATENT_DIM, generator=seeded("generated", i)) for i in numbers])
    mean = generator.mean_latent
    with full_precision(mean.device):
        return generator.truncate(generator.mapping(z.to(mean)), truncation)


@torch.no_grad()
def _make(generator: Generator, first: int, truncation: float, size: int, file: Path) -> None:
    parts = []
    for part in torch.split(_latents(generator, range(first, first + SHARD), truncation), CHUNK):
        made = generator(generator.broadcast(part), size)
        parts.append(images.to_uint8(made).transpose(0, 3, 1, 2))
        release_memory()
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(parts))
    write_whole(file, buffer.getvalue(), TrainingError, "ask for fewer faces with data.generated")
