"""How far FFHQ crops from MTCNN's points are from those of dlib, and the correction between them.

    python benchmarks/alignment_correction.py FOLDER [EVERY]

FOLDER holds pictures that were aligned with dlib's landmarks, so that the true crop of each is the
whole picture; every EVERY-th of them is taken. The correction (offset in half sides to the right
and down, scale) is a constant of `sdic.alignment`.
"""

from __future__ import annotations

import sys

import numpy as np

from sdic import alignment, images
from sdic.recognition.detection import load_detector

DOUBTFUL = 0.08  # of the side: where both disagree more than this, the picture itself is tilted


def main(folder: str, every: int = 1) -> None:
    """Print the correction that fits the pictures best, and the mean distance of the corners."""
    detector = load_detector("mtcnn")
    frames, plain, corrected = [], [], []
    for path in images.list_images([folder])[::every]:
        rgb = images.read(path).rgb
        faces = detector(rgb)
        if not faces:
            print(f"no face: {path}")
            continue
        truth = alignment.aligned_place(rgb)
        quad = alignment.ffhq_quad(faces[0].points)
        place = alignment.place_of_face(faces[0], truth.photo_size)
        plain.append(np.linalg.norm(quad - truth.quad, axis=1).mean() / truth.side)
        corrected.append(np.linalg.norm(place.quad - truth.quad, axis=1).mean() / truth.side)
        axes = alignment.CropPlace(quad, truth.photo_size).axes / 2
        offset = np.linalg.inv(axes) @ (truth.quad.mean(axis=0) - quad.mean(axis=0))
        frames.append((*offset, truth.side / (2 * np.linalg.norm(axes[:, 0]))))
    sure = np.array(plain) < DOUBTFUL
    x, y, scale = np.array(frames)[sure].mean(axis=0)
    print(f"{sure.sum()} of {len(sure)} pictures: offset {x:.4f} {y:.4f}, scale {scale:.4f}")
    for name, errors in (("without", np.array(plain)), ("with", np.array(corrected))):
        print(
            f"{name} the correction: mean {errors.mean():.2%} of the side, "
            f"median {np.median(errors):.2%}; without doubtful ones {errors[sure].mean():.2%}"
        )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
