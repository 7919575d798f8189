"""Results of single images on disk, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdic import images
from sdic.files import write_whole
from sdic.generators.base import Generator
from sdic.images import Pixels
from sdic.methods.base import Inverter
from sdic.runtime.delegating import original


@dataclass(frozen=True)
class EditResult:
    """One edit of one image.

    Attributes:
        metrics: identity metrics of the edited image against the photo.
        changes: each judged attribute after the edit less before it, in its unit.
    """

    metrics: dict[str, float]
    changes: dict[str, float]


@dataclass(frozen=True)
class ImageResult:
    """One image under one method.

    Attributes:
        metrics: of the reconstruction against the photo, and seconds and peak_memory_mb.
        edits: by their labels.
    """

    metrics: dict[str, float | None]
    edits: dict[str, EditResult] = field(default_factory=dict)


class Store:
    """Results and pictures under a folder; each file appears whole or not at all.

    Args:
        folder: results lie in `work/METHOD/`, pictures in `pictures/METHOD/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, method: str, image: str, label: str = "") -> Path:
        """Where the picture of a reconstruction lies, or that of an edit."""
        name = f"{image}.{label}.png" if label else f"{image}.png"
        return self.folder / "pictures" / method / name

    def write_picture(self, path: Path, pixels: Pixels) -> None:
        """Write one picture; the metadata say that it was generated."""
        images.write(path, pixels, generated=True)

    def load(self, method: str, image: str, key: str) -> ImageResult | None:
        """The result kept for an image; None if there is none, or it was made otherwise.

        Args:
            method: key of the method.
            image: name of the file.
            key: see `key_of`.
        """
        try:
            kept = json.loads(self._path(method, image).read_text("utf-8"))
            if kept["key"] != key:
                return None
            edits = {label: EditResult(**edit) for label, edit in kept["edits"].items()}
            return ImageResult(kept["metrics"], edits)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, method: str, image: str, key: str, result: ImageResult) -> None:
        """Keep a result."""
        data = json.dumps({"key": key, **asdict(result)}, indent=1)
        write_whole(self._path(method, image), data.encode())

    def _path(self, method: str, image: str) -> Path:
        return self.folder / "work" / method / f"{image}.json"


def key_of(settings: Mapping[str, Any], photo: bytes) -> str:
    """What a result depends on, as one text: the settings, and the bytes of the photo."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode() + hashlib.sha256(photo).digest()).hexdigest()


def method_digest(inverter: Inverter) -> str:
    """Sixteen hexadecimal digits for a method: its weights, its settings, its generator."""
    digest = hashlib.sha256()
    digest.update(repr((inverter.name, inverter.settings)).encode())
    generator = original(inverter.generator)
    _update(digest, "generator", generator)
    digest.update(repr(tuple(generator.feature_shape)).encode())
    for name, network in sorted(inverter.networks.items()):
        _update(digest, name, network)
    return digest.hexdigest()[:16]


def tensor_digest(tensor: Tensor) -> str:
    """Sixteen hexadecimal digits that stand for a tensor."""
    return hashlib.sha256(_bytes(tensor)).hexdigest()[:16]


def _update(digest: Any, name: str, network: Generator | torch.nn.Module) -> None:
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}.{key}".encode())
        digest.update(_bytes(tensor))


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()
