"""Find faces in a photo: where they are, and the landmarks that the FFHQ crop needs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdic.errors import InputError
from sdic.images import Pixels
from sdic.images.photo import check_rgb
from sdic.recognition.mtcnn import MTCNN

# Larger photos are scaled down to this longer side before MTCNN looks for faces.
MTCNN_SIDE = 2048
# dlib's HOG detector finds faces from 80 pixels on; it looks at the photo scaled to this side.
DLIB_SIDE = 1600
DLIB_THRESHOLD = 0.2  # margin; what scores less is mostly no face


@dataclass(frozen=True, eq=False)
class Face:
    """A face in pixels of the photo, where pixel i covers [i, i+1].

    Attributes:
        box: left, top, right, bottom.
        points: [5,2] x and y of the two eyes, the nose, the two corners of the mouth; of a pair,
            the one on the left of an upright picture comes first.
        score: how sure the detector is: a probability (MTCNN), or a margin (dlib).
        landmarks: [68,2] in the order of iBUG 300-W, or None if the detector has none.
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float64]
    score: float
    landmarks: NDArray[np.float64] | None = None

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class Detector(Protocol):
    """What finds faces: a name, a description for error messages, and a call."""

    name: str

    def __call__(self, rgb: Pixels) -> list[Face]:
        """Faces in a photo [H,W,3] uint8, the largest first; an empty list if there is none."""

    def describe(self, rgb: Pixels) -> str:
        """What is tried on this photo, for the error that says that no face was found."""


class MTCNNDetector:
    """MTCNN with its published weights, on the CPU."""

    name = "mtcnn"

    def __init__(self, network: MTCNN) -> None:
        self.network = network.eval()

    def __call__(self, rgb: Pixels) -> list[Face]:
        """Faces in a photo [H,W,3], the largest first."""
        check_rgb(rgb)
        small, ratio = _scaled_down(rgb, MTCNN_SIDE)
        found = self.network(small)
        boxes = found.boxes * np.concatenate((ratio, ratio))
        faces = [
            Face(_as_box(box), points, float(score))
            for box, points, score in zip(boxes, found.points * ratio, found.scores, strict=True)
        ]
        return _largest_first(faces)

    def describe(self, rgb: Pixels) -> str:
        """What is tried on this photo."""
        _, ratio = _scaled_down(rgb, MTCNN_SIDE)
        smallest = self.network.min_face * float(ratio.max())
        return (
            f"MTCNN looked for upright faces of {smallest:.0f} pixels and more, with scores of at "
            f"least {self.network.thresholds[-1]:g}"
        )


class DlibDetector:
    """dlib's HOG detector with its 68 landmarks; finds frontal faces only.

    Raises:
        InputError: the library dlib is not installed.
    """

    name = "dlib"

    def __init__(self, predictor_file: str) -> None:
        dlib = _import_dlib()
        self.detector: Any = dlib.get_frontal_face_detector()
        self.predictor: Any = dlib.shape_predictor(predictor_file)

    def __call__(self, rgb: Pixels) -> list[Face]:
        """Faces in a photo [H,W,3], the largest first."""
        check_rgb(rgb)
        dlib = _import_dlib()
        small, ratio = _scaled_down(rgb, DLIB_SIDE)
        # One doubling finds faces from 40 pixels on; large photos have none so small.
        doublings = int(max(small.shape) <= DLIB_SIDE // 2)
        boxes, scores, _ = self.detector.run(small, doublings, DLIB_THRESHOLD)
        photo = np.ascontiguousarray(rgb)
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            sides = np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1])
            full = sides * np.concatenate((ratio, ratio))
            shape = self.predictor(photo, dlib.rectangle(*(round(side) for side in full)))
            # dlib gives indices of pixels; the middle of pixel i is at i + 0.5.
            landmarks = np.array([(part.x, part.y) for part in shape.parts()]) + 0.5
            faces.append(Face(_as_box(full), five_of_68(landmarks), float(score), landmarks))
        return _largest_first(faces)

    def describe(self, rgb: Pixels) -> str:
        """What is tried on this photo."""
        small, ratio = _scaled_down(rgb, DLIB_SIDE)
        smallest = (40 if max(small.shape) <= DLIB_SIDE // 2 else 80) * float(ratio.max())
        return (
            f"dlib looked for upright frontal faces of {smallest:.0f} pixels and more, with "
            f"margins of at least {DLIB_THRESHOLD:g}"
        )


def load_detector(name: str = "mtcnn") -> Detector:
    """A detector by its name, "mtcnn" or "dlib"; its weights are fetched if needed.

    Raises:
        InputError: there is no such detector, or its library is not installed.
        WeightsError: its weights cannot be fetched or read.
    """
    from sdic import weights

    if name == "mtcnn":
        network = MTCNN()
        network.load_state_dict(weights.load("mtcnn"))
        return MTCNNDetector(network.requires_grad_(False))
    if name == "dlib":
        _import_dlib()
        return DlibDetector(str(weights.fetch("dlib-landmarks")))
    raise InputError(f"There is no face detector '{name}'; known are: mtcnn, dlib.")


def five_of_68(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Five points [5,2] (eyes, nose, corners of the mouth) of 68 landmarks [68,2]."""
    return np.stack(
        (
            landmarks[36:42].mean(axis=0),
            landmarks[42:48].mean(axis=0),
            landmarks[30],
            landmarks[48],
            landmarks[54],
        )
    )


def _import_dlib() -> Any:
    try:
        return importlib.import_module("dlib")
    except ImportError:
        raise InputError(
            "The detector 'dlib' needs the library dlib, which is not installed; "
            "install it with: pip install 'sdic[dlib]', or use the detector 'mtcnn'."
        ) from None


def _scaled_down(rgb: Pixels, side: int) -> tuple[Pixels, NDArray[np.float64]]:
    """The photo with its longer side at most `side`, and photo pixels per pixel in x and y."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(rgb), np.ones(2)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    return small, np.array([width / size[0], height / size[1]])


def _as_box(sides: NDArray[np.float64]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(side) for side in sides)
    return left, top, right, bottom


def _largest_first(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: -face.area)
