"""Samples of a generator with the scores that classifiers give them, kept on disk.

A sample depends on the seed and its number only. Its image is made once; its score by each scorer
is computed once, and anew when the scorer's network was trained anew. So a second attribute, or a
larger set, costs only what is new.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from sdic.errors import InputError
from sdic.files import make_folder, read_tensors, save_tensors, whole
from sdic.generators.base import Generator
from sdic.images import to_tensor, to_uint8
from sdic.runtime.delegating import DelegatingGenerator, original

SIZE = 256
QUALITY = 95
BATCH = 4
Scorer = Callable[[Tensor], Tensor]  # images [N,3,256,256] in [-1,1] to scores [N]
Report = Callable[[int, int], None]  # (images done, images in all)


@dataclass(frozen=True)
class Condition:
    """A bound on the scores of samples, such as gender>1.

    Attributes:
        name: of the scorer.
        above: whether scores have to be above the bound, not below it.
        bound: in the scorer's unit.
    """

    name: str
    above: bool
    bound: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition that a text says.

        Raises:
            InputError: it has another form than NAME>NUMBER or NAME<NUMBER.
        """
        found = re.fullmatch(r"\s*([\w-]+)\s*([<>])\s*([-+]?[\d.]+)\s*", text)
        try:
            if found is not None:
                return cls(found[1], found[2] == ">", float(found[3]))
        except ValueError:
            pass
        raise InputError(
            f"The condition is '{text}'; expected NAME>NUMBER or NAME<NUMBER, e.g. gender>1."
        )

    def holds(self, scores: Tensor) -> Tensor:
        """Which of the scores [N] it holds for, [N] bool."""
        return scores > self.bound if self.above else scores < self.bound


def fingerprint(network: nn.Module) -> str:
    """Twelve hexadecimal digits that change with any weight of a network."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def scorer_fingerprint(scorer: Scorer) -> str:
    """Twelve hexadecimal digits that change with the kind of a scorer and with its weights."""
    owner = getattr(scorer, "__self__", scorer)  # of a method, such as a margin, its network
    if not isinstance(owner, nn.Module):
        return hashlib.sha256(getattr(owner, "__qualname__", "").encode()).hexdigest()[:12]
    kinds = [type(part).__qualname__ for part in owner.modules()]
    return hashlib.sha256(f"{kinds} {fingerprint(owner)}".encode()).hexdigest()[:12]


class SampleSet:
    """Samples 0, 1, 2, ... of one generator, seed and truncation, in a folder of their own.

    Args:
        generator: whose samples, accelerated or not; it runs on the device it is on. One in bf16
            has sets of its own.
        folder: where sets are kept; this one gets a folder inside it, named after all that
            determines its images.
        seed: of `Generator.sample`.
        truncation: of `Generator.sample`.
    """

    def __init__(
        self, generator: Generator, folder: Path, seed: int = 0, truncation: float = 1.0
    ) -> None:
        self.generator = generator
        self.seed = seed
        self.truncation = truncation
        mark = fingerprint(original(generator))
        name = f"{generator.name}-{mark}-seed{seed}-truncation{truncation:g}"
        if isinstance(generator, DelegatingGenerator) and generator.precision != "f32":
            name += f"-{generator.precision}"
        self.folder = folder / name

    @torch.no_grad()
    def latents(self, num: int) -> Tensor:
        """Latents w [num,512] of the first samples, on the CPU."""
        return self.generator.sample(num, self.seed, self.truncation).cpu()

    def images(self, first: int, last: int) -> Tensor:
        """Images of samples first .. last - 1, [N,3,256,256] in [-1,1]; made where missing.

        They are kept as JPEG of quality 95 with full colour resolution, and read back from there
        every time, so that scores do not depend on what was cached.
        """
        make_folder(self.folder)
        missing = [i for i in range(first, last) if not self._path(i).is_file()]
        latents = self.latents(last)[missing] if missing else torch.empty(0)
        for start in range(0, len(missing), BATCH):
            self._render(missing[start : start + BATCH], latents[start : start + BATCH])
        return torch.stack([_read(self._path(i)) for i in range(first, last)])

    @torch.no_grad()
    def scores(self, name: str, scorer: Scorer, num: int, report: Report | None = None) -> Tensor:
        """Scores [num] of the first samples by a scorer on the CPU.

        They are kept under its name and `scorer_fingerprint`.

        Raises:
            InputError: what is kept cannot be read, or the scorer gives another shape.
        """
        path = self.folder / f"scores-{name}-{scorer_fingerprint(scorer)}.safetensors"
        known = _read_scores(path)
        chunk = 16 * BATCH
        while len(known) < num:
            first, last = len(known), min(len(known) + chunk, num)
            new = scorer(self.images(first, last)).float()
            if new.shape != (last - first,):
                raise InputError(
                    f"Scorer '{name}' gave {list(new.shape)} for {last - first} images; expected "
                    "one number for each."
                )
            known = torch.cat((known, new))
            save_tensors(path, {"scores": known})
            if report is not None:
                report(last, num)
        return known[:num]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07d}.jpg"

    @torch.no_grad()
    def _render(self, numbers: list[int], w: Tensor) -> None:
        latents = self.generator.broadcast(w.to(self.generator.mean_latent))
        pictures = to_pictures(self.generator(latents, size=SIZE))
        for number, picture in zip(numbers, pictures, strict=True):
            with whole(self._path(number)) as path:
                picture.save(path, "JPEG", quality=QUALITY, subsampling=0)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images [N,3,H,W] in about [-1,1] as pictures; values outside are clamped."""
    return [Image.fromarray(pixels) for pixels in to_uint8(images)]


def _read(path: Path) -> Tensor:
    try:
        with Image.open(path) as picture:
            array = np.array(picture.convert("RGB"))
        if array.shape != (SIZE, SIZE, 3):
            raise ValueError(f"shape {array.shape}")
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(path) from error
    return to_tensor(array)[0]


def _read_scores(path: Path) -> Tensor:
    if not path.is_file():
        return torch.empty(0)
    try:
        scores = read_tensors(path)[0]["scores"]
        if scores.ndim != 1:
            raise ValueError(f"shape {list(scores.shape)}")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path) from error
    return scores


def _damaged(path: Path) -> InputError:
    return InputError(f"What is kept in {path} cannot be read; delete the file, it is made anew.")
