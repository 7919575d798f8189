"""An inversion method and a detector without trained weights, around the tiny generator."""

from __future__ import annotations

import numpy as np
import torch

from sdic.cli import main
from sdic.editing.direction import Direction
from sdic.editing.library import save_directions
from sdic.editor import Editor
from sdic.images import resize_area
from sdic.methods.base import Inverter
from sdic.recognition.detection import Face
from tiny import tiny_generator


class FakeInverter(Inverter):
    """Latents from a seed; the photo goes into F, so that inversions of two photos differ."""

    name = "sdic"

    @torch.no_grad()
    def _invert(self, images, progress):
        generator = self.generator
        latents = generator.sample(generator.num_styles, seed=1)[None].expand(len(images), -1, -1)
        side = generator.feature_shape[-1]
        photo = resize_area(images, side).mean(1, keepdim=True)
        features = generator.to_features(latents) + 0.5 * photo
        if progress is not None:
            progress(1, 1, 0.0)
        return self.made(latents, features=features)


class FakeDetector:
    """Finds a face at each of the places it was given: (x, y) of its middle, and its width."""

    name = "mtcnn"

    def __init__(self, *faces):
        self.faces = faces

    def __call__(self, rgb):
        offsets = np.array([(-0.25, -0.2), (0.25, -0.2), (0, 0), (-0.2, 0.25), (0.2, 0.25)])
        found = []
        for x, y, width in self.faces:
            half = width / 2
            points = np.array([x, y]) + width * offsets
            found.append(Face((x - half, y - half, x + half, y + half), points, 1.0))
        return sorted(found, key=lambda face: -face.area)

    def describe(self, rgb):
        return "the fake looked"


def fake_editor(detector=None, **options):
    """An editor with the fake method; without a detector, photos have one face at (70, 60)."""
    detector = detector or FakeDetector((70, 60, 24))
    return Editor(FakeInverter(tiny_generator()), detector=detector, **options)


def write_directions(path):
    """A file with the directions "smile" and "age" for the tiny generator; returns its path."""
    random = torch.Generator().manual_seed(5)
    save_directions(
        [
            Direction(name, torch.randn(512, generator=random), "mobile")
            for name in ("smile", "age")
        ],
        path,
    )
    return path


def noise_photo(height=120, width=160, seed=0):
    """Pixels [H,W,3] uint8 without any order."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def call_main(monkeypatch, capsys, *arguments):
    """Run `sdic ARGUMENTS` in this process: exit code, standard output, standard error."""
    monkeypatch.setattr("sys.argv", ["sdic", *map(str, arguments)])
    capsys.readouterr()
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err
