"""Training images: folders of aligned photos, endless samples of the generator, and mixtures.

Nothing here has a state. Which photos a batch holds, how they are augmented and which z are drawn
is a function of (seed, index, rank), so a run resumes exactly from its step number alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from sdic import images
from sdic.errors import InputError, TrainingError
from sdic.files import make_folder, whole
from sdic.generators.base import LATENT_DIM, Generator
from sdic.training.augmentation import augment, degrade, occlude
from sdic.training.recipe import DataRecipe
from sdic.training.task import Batch


def derive_seed(*parts: int | str) -> int:
    """A seed that depends on all parts, and is unrelated for any two different lists of them."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seeded(*parts: int | str) -> torch.Generator:
    """A fresh CPU random generator of `derive_seed(*parts)`."""
    return torch.Generator("cpu").manual_seed(derive_seed(*parts))


def full_precision(device: torch.device) -> torch.autocast:
    """A context that switches off a surrounding bf16 autocast, for what needs its digits."""
    return torch.autocast(device.type, enabled=False)


def from_pixels(pixels: images.Pixels) -> Tensor:
    """Pixels [N,3,H,W] uint8 to images in [-1,1]."""
    return torch.from_numpy(pixels).float().div_(127.5).sub_(1)


def private(folder: Path) -> None:
    """Make a folder of faces, where it is missing, and let nobody but its owner look into it.

    Raises:
        TrainingError: it cannot be made.
    """
    make_folder(folder, TrainingError)
    with contextlib.suppress(OSError):  # another user's, or a file system without permissions
        folder.chmod(0o700)


def map_pixels(file: Path, shape: tuple[int, ...]) -> images.Pixels:
    """Pixels of a .npy file, mapped into memory.

    Raises:
        TrainingError: the file is damaged, or holds something else.
    """
    try:
        pixels: images.Pixels = np.lib.format.open_memmap(file, mode="r")
        if pixels.shape == shape and pixels.dtype == np.uint8:
            return pixels
    except (OSError, ValueError, OverflowError):
        pass
    raise TrainingError(f"The kept pixels in {file} are damaged; delete it and run again.")


class Photos:
    """Photos decoded once to [M,3,size,size] uint8, in a file that the system maps into memory.

    The file lies in the cache folder, and its name depends on the list of photos, their sizes and
    their times of change; several processes share it, and a resumed run starts at once.
    """

    def __init__(self, pixels: images.Pixels) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @classmethod
    def read(cls, folders: Sequence[Path], size: int, cache: Path) -> Photos:
        """Decode the photos of the folders, or map what an earlier run decoded.

        Raises:
            InputError: a folder is empty or missing, or a photo cannot be read or is not square
                (an aligned photo is).
            TrainingError: the cache folder cannot be written.
        """
        digest = hashlib.sha256(f"{size}".encode())
        try:
            paths = images.list_images(folders)
            for path in paths:
                status = path.stat()
                digest.update(os.fsencode(path.resolve()))
                digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError as error:
            raise InputError(
                f"The photos cannot be listed ({error.strerror}); check data.photos and --data."
            ) from error
        private(cache)
        file = cache / f"photos-{size}-{digest.hexdigest()[:16]}.npy"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                _decode_all(paths, size, file)
        return cls(map_pixels(file, (len(paths), 3, size, size)))

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        """Photos by index: [N,3,size,size] float in [-1,1]."""
        if not len(indices):
            return torch.empty(0, *self._pixels.shape[1:])
        return from_pixels(self._pixels[list(indices)])


class Faces(Protocol):
    """Generated images with their w, by number; see `training.generated`."""

    def __len__(self) -> int: ...

    def at(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images [N,3,H,W] in [-1,1] and their w [N,512]."""


class Mixture:
    """Batches of photos and generated images, augmented.

    Of every batch a share comes from the generator; where the share is not a whole number of
    images, it is so on average. Photos are drawn without repetition within a pass over them.
    Photos are flipped, recoloured and jittered; generated images are not, since their w is known,
    but they are degraded. Both get occluders.

    Args:
        settings: see `DataRecipe`.
        batch_size: N.
        seed: of all batches.
        size: side of the images.
        photos: None where all images are generated.
        generator: None where all images are photos.
        faces: generated images that were made before; None makes every one anew.

    Raises:
        TrainingError: photos or a generator are wanted and missing.
    """

    def __init__(
        self,
        settings: DataRecipe,
        batch_size: int,
        seed: int,
        size: int,
        photos: Photos | None,
        generator: Generator | None,
        faces: Faces | None = None,
    ) -> None:
        if settings.generator_share < 1 and photos is None:
            raise TrainingError("The recipe wants photos; give their folder with --data.")
        if settings.generator_share > 0 and generator is None:
            raise TrainingError("The recipe wants generated images, and there is no generator.")
        self.settings = settings
        self.batch_size = batch_size
        self.seed = seed
        self.size = size
        self.photos = photos
        self.generator = generator
        self.faces = faces

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Micro-batch `index` of process `rank`; see `Batch`."""
        seed = derive_seed(self.seed, index, rank)
        random = seeded(seed, "batch")
        share = self.settings.generator_share * self.batch_size
        generated = int(share + torch.rand((), generator=random).item())
        made, latents = self._generated(min(generated, self.batch_size), random)
        first = (index * world_size + rank) * self.batch_size
        slots = range(first + len(made), first + self.batch_size)
        with full_precision(made.device):
            photos = augment(self._photos(slots), self.settings.augmentation, random)
            known = torch.arange(self.batch_size) < len(latents)
            latents = torch.cat((latents, latents.new_zeros(len(photos), LATENT_DIM)))
            made = degrade(made, self.settings.augmentation, random)
            mixed = torch.cat((made, photos.to(made)))
            mixed = occlude(mixed, self.settings.augmentation, random)
        return Batch(mixed, latents, known.to(latents.device), seed)

    def _photos(self, slots: range) -> Tensor:
        if self.photos is None:
            return torch.empty(0, 3, self.size, self.size)
        return self.photos[[self._photo_of(slot) for slot in slots]]

    def _photo_of(self, slot: int) -> int:
        """The photo at a place of the endless shuffled sequence of passes over all photos."""
        count = len(self.photos or ())
        epoch, position = divmod(slot, count)
        order = torch.randperm(count, generator=seeded(self.seed, "epoch", epoch))
        return int(order[position])

    @torch.no_grad()
    def _generated(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` generated images [K,3,size,size] in [-1,1] and their w [K,512]."""
        if self.generator is None or not count:
            return torch.empty(0, 3, self.size, self.size), torch.empty(0, LATENT_DIM)
        if self.faces is not None:
            return self.faces.at(
                torch.randint(len(self.faces), (count,), generator=random).tolist()
            )
        z = torch.randn(count, LATENT_DIM, generator=random)
        mean = self.generator.mean_latent
        with full_precision(mean.device):
            w = self.generator.truncate(
                self.generator.mapping(z.to(mean)), self.settings.truncation
            )
        made = self.generator(self.generator.broadcast(w), self.size)
        return made.float().clamp(-1, 1), w


def _decode_all(paths: Sequence[Path], size: int, file: Path) -> None:
    """Decode photos into a .npy file, whole or not at all."""
    with whole(file, TrainingError) as partial:
        pixels = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.uint8, shape=(len(paths), 3, size, size)
        )
        for i, path in enumerate(paths):
            pixels[i] = _decode(path, size)
        pixels.flush()


def _decode(path: Path, size: int) -> images.Pixels:
    """One photo as [3,size,size] uint8, reduced with an antialiasing filter."""
    photo = images.read(path)
    width, height = photo.size
    if width != height:
        raise InputError(
            f"The photo {path} is {width}x{height}; training takes aligned, square photos. "
            "Align it first with `sdic align`."
        )
    reduced = images.resize_antialiased(images.to_tensor(photo.rgb), size)
    pixels: images.Pixels = images.to_uint8(reduced)[0].transpose(2, 0, 1)
    return pixels
