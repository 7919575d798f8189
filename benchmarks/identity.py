"""How well the recognisers tell people apart on a folder of portraits, one of each person.

    python benchmarks/identity.py --faces DIR [--copies 4] [--out FILE]

A pair of the same person is a photo and an altered copy of it (mirrored, turned, shifted and scaled
a little, other colours, saved as a small JPEG); a pair of different people is any two photos. The
columns: means of both kinds in the recogniser's own measure, the area under the ROC curve, the
equal error rate, and d', the distance of the means in root mean variances. Copies are more alike
than two photos of one person are, so that the first mean is nearer to identity than the one which
the recogniser names for two photos (`same_person`), while the second should be like
`different_people`.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from common import machine, report, table
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve  # type: ignore[import-untyped]
from torch import Tensor

from sdic import images, recognition
from sdic.editing.samples import to_pictures
from sdic.evaluation.benchmark import load_face
from sdic.training.augmentation import augment
from sdic.training.recipe import Augmentation

RECOGNISERS = ("dlib", "faceres", "fr-feature")
ALTERED = Augmentation(flip=0.5, jitter=1.0, colour=1.0)
JPEG_QUALITY = 40
CHUNK = 16


def altered(faces: Tensor, seed: int) -> Tensor:
    """Copies of faces [N,3,H,W] in [-1,1] that show the same people otherwise."""
    copies = augment(faces, ALTERED, torch.Generator().manual_seed(seed))
    return torch.cat([_through_jpeg(picture) for picture in to_pictures(copies)])


def _through_jpeg(picture: Image.Image) -> Tensor:
    with io.BytesIO() as buffer:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return images.to_tensor(np.asarray(Image.open(buffer).convert("RGB")))


def separation(same: Tensor, different: Tensor, lower_is_alike: bool) -> dict[str, float]:
    """How well a measure tells pairs [N] of one person from pairs [M] of two."""
    sign = -1 if lower_is_alike else 1
    values = sign * torch.cat((same, different)).double().numpy()
    truth = np.repeat([1, 0], [len(same), len(different)])
    false, true, _ = roc_curve(truth, values)
    nearest = np.abs(false - (1 - true)).argmin()
    spread = ((same.double().var() + different.double().var()) / 2).sqrt()
    return {
        "same": float(same.mean()),
        "different": float(different.mean()),
        "auc": float(roc_auc_score(truth, values)),
        "eer": float((false[nearest] + 1 - true[nearest]) / 2),
        "d'": float((same.double().mean() - different.double().mean()).abs() / spread),
    }


def compare(recogniser: recognition.Recogniser, faces: Tensor, others: Tensor) -> Tensor:
    """The recogniser's `compare` [N], a few pairs at a time."""
    pairs = zip(faces.split(CHUNK), others.split(CHUNK), strict=True)
    return torch.cat([recogniser.compare(*pair) for pair in pairs])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4, help="altered copies of each photo")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json, too")
    options = parser.parse_args()
    paths = images.list_images([options.faces])
    faces = torch.cat([load_face(path) for path in paths])
    first, second = torch.triu_indices(len(faces), len(faces), 1)
    copies = torch.cat([altered(faces, seed) for seed in range(options.copies)])
    rows, measured = [], {}
    for name in RECOGNISERS:
        recogniser = recognition.create(name)
        with torch.inference_mode():
            different = compare(recogniser, faces[first], faces[second])
            same = compare(recogniser, faces.repeat(options.copies, 1, 1, 1), copies)
        one = separation(same, different, recogniser.measure == "distance")
        measured[name] = one
        known = f"{recogniser.same_person:.2f} / {recogniser.different_people:.2f}"
        means = f"{one['same']:.3f} / {one['different']:.3f}"
        numbers = (f"{one['auc']:.4f}", f"{one['eer']:.4f}", f"{one['d' + chr(39)]:.1f}")
        rows.append([f"{name} ({recogniser.measure})", means, known, *numbers])
    heads = ["recogniser", "copies / different people", "two photos / different people, known"]
    body = table([*heads, "AUC", "EER", "d'"], rows)
    data = {"machine": machine(torch.get_num_threads()), "faces": len(faces), "rows": measured}
    data["copies"] = options.copies
    report("Identity: how well people are told apart", body, data, options.out)


if __name__ == "__main__":
    main()
