"""Images that tests give to recognition networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DATA = Path(__file__).parent / "data" / "recognition"


def smooth_image() -> Tensor:
    """Three sine waves, one for each channel: [1,3,256,256]."""
    y, x = np.mgrid[0:256, 0:256] / 256
    waves = ((1.5, 0.5, 0.3), (-0.7, 2.1, 1.1), (2.3, 1.2, 2.0))
    channels = [np.sin(2 * np.pi * (a * x + b * y) + phase) for a, b, phase in waves]
    return torch.tensor(0.8 * np.stack(channels)[None], dtype=torch.float32)


def generated_faces() -> Tensor:
    """Two faces that the embedded generator made: [2,3,256,256]; the second turns left."""
    pixels = np.asarray(Image.open(DATA / "faces.webp").convert("RGB")).copy()
    faces = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    return torch.stack([faces[:, :, :256], faces[:, :, 256:]])
