"""dlib's 68 landmarks in aligned images: a second opinion on pose, mouth and eyes.

The file `shape_predictor_68_face_landmarks.dat` was trained on iBUG 300-W, which is not for
commercial use. The predictor is a cascade of regression trees (Kazemi and Sullivan 2014): no
gradients flow.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdic import weights
from sdic.errors import InputError
from sdic.recognition.preprocessing import check_aligned, to_bytes

# Where dlib's detector finds the face in an FFHQ-aligned image, on average of 59 photos: left, top,
# right, bottom. With it the points move by 1 pixel on average from those of the detected box.
BOX = (46, 78, 201, 233)


class DlibLandmarks(nn.Module):
    """The 68 points of iBUG 300-W: images [N,3,256,256] in [-1,1] to pixels [N,68,2].

    Args:
        predictor_file: path of the .dat file.

    Raises:
        InputError: the library dlib is not installed.
    """

    name = "dlib-landmarks"

    def __init__(self, predictor_file: str) -> None:
        super().__init__()
        dlib = _import_dlib()
        self._predictor: Any = dlib.shape_predictor(predictor_file)
        self._box: Any = dlib.rectangle(*BOX)

    @classmethod
    def pretrained(cls) -> DlibLandmarks:
        """The predictor with its published file, fetched on first use.

        Raises:
            InputError: the library dlib is not installed.
            WeightsError: the file cannot be fetched.
        """
        _import_dlib()
        return cls(str(weights.fetch("dlib-landmarks")))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to points [N,68,2] in pixels, without gradients."""
        check_aligned(images)
        pixels = to_bytes(images.detach()).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        shapes = [
            [(part.x, part.y) for part in self._predictor(face, self._box).parts()]
            for face in np.ascontiguousarray(pixels.cpu().numpy())
        ]
        # dlib gives indices of pixels; the middle of pixel i is at i + 0.5.
        points = torch.tensor(shapes, dtype=images.dtype, device=images.device)
        return points.reshape(-1, 68, 2) + 0.5


def _import_dlib() -> Any:
    try:
        return importlib.import_module("dlib")
    except ImportError:
        raise InputError(
            "dlib's landmarks need the library dlib, which is not installed: install it with"
            " pip install 'sdic[dlib]', or judge with another network."
        ) from None
