"""MTCNN: joint face detection and alignment by three cascaded networks.

Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks", 2016 (arXiv 1604.02878), fig. 2. P-Net runs over an image pyramid and proposes boxes,
R-Net refines them at 24x24, O-Net at 48x48 and gives five landmarks. Parameter names are those of
the facenet-pytorch package, with the prefix of the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.images import Pixels

Floats = NDArray[np.float64]

_CELL, _STRIDE = 12, 2  # receptive field and stride of P-Net, in pixels of its pyramid level
_BATCH = 256  # patches in one pass of R-Net or O-Net
# The square in which O-Net sees a face after R-Net: its side in distances between the eyes or
# between eyes and mouth (the larger), its centre between the eyes (0) and the mouth (1).
_SIDE, _CENTRE = 2.4, 0.32
_MIRRORED = [1, 0, 2, 4, 3]  # order of the five points in a mirrored image

# Landmarks are averaged over these views of a face: side as a factor of the usual one, shift in x
# and y as fractions of the side.
_VIEWS = [
    (side, x, y)
    for side in (0.9, 1.0, 1.1)
    for x, y in ((0, 0), (-0.05, 0), (0.05, 0), (0, -0.05), (0, 0.05))
]


class PNet(nn.Module):
    """Proposal network, fully convolutional: [N,3,H,W] to face map [N,h,w], boxes [N,4,h,w]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the cells, and what to add to their boxes as fractions of the side."""
        x = nnf.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """Refinement network: [N,3,24,24] to face scores [N], boxes [N,4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(64 * 3 * 3, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the patches, and what to add to their boxes as fractions of the side."""
        x = nnf.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = nnf.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(_flatten(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """Output network: [N,3,48,48] to face scores [N], boxes [N,4], landmarks [N,5,2]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(128 * 3 * 3, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, what to add to the boxes, and landmarks as fractions of the patch."""
        x = nnf.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = nnf.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = nnf.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flatten(self.prelu4(self.conv4(x)))))
        # The ten numbers are five x, then five y, as fractions of the box.
        landmarks = self.dense6_3(x).view(-1, 2, 5).transpose(1, 2)
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), landmarks


def _flatten(x: Tensor) -> Tensor:
    """[N,C,H,W] to [N,W*H*C]: the order of the original (column-major) training code."""
    return x.permute(0, 3, 2, 1).flatten(1)


@dataclass
class Detections:
    """Faces in pixels of the image, where pixel i covers [i, i+1].

    Attributes:
        boxes: [N,4] left, top, right, bottom.
        scores: [N], probability of a face.
        points: [N,5,2] x and y of the two eyes, the nose and the two corners of the mouth; of a
            pair, the one on the left of an upright picture comes first.
    """

    boxes: Floats
    scores: Floats
    points: Floats


class MTCNN(nn.Module):
    """The cascade.

    Args:
        min_face: side of the smallest face in pixels of the image that is given.
        thresholds: scores that the three stages ask for.
        factor: step of the image pyramid.
    """

    def __init__(
        self,
        min_face: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.9),
        factor: float = 0.709,
    ) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        self.min_face, self.thresholds, self.factor = min_face, thresholds, factor

    @torch.no_grad()
    def forward(self, rgb: Pixels) -> Detections:
        """Faces in an image [H,W,3]: propose, refine, locate the landmarks."""
        image = Image.fromarray(rgb)
        boxes = self._propose(image)
        boxes = self._refine(image, boxes)
        faces = self._output(image, boxes)
        for points in faces.points:
            points[:] = self.locate(image, points)
        return faces

    def _propose(self, image: Image.Image) -> Floats:
        """P-Net over the pyramid: square boxes [N,4]."""
        scale = _CELL / self.min_face
        found = [np.empty((0, 9))]
        while min(image.size) * scale >= _CELL:
            level = math.ceil(image.width * scale), math.ceil(image.height * scale)
            pixels = np.asarray(image.resize(level, Image.Resampling.BILINEAR))
            scores, offsets = self.pnet(_normalise(pixels[None]))
            row, column = torch.nonzero(scores[0] >= self.thresholds[0], as_tuple=True)
            corners = torch.stack((column, row), dim=1).double().numpy() * _STRIDE
            # Each axis has its own ratio, because sides are whole pixels.
            ratio = np.divide(image.size, level)
            boxes = np.concatenate((corners * ratio, (corners + _CELL) * ratio), axis=1)
            score = scores[0, row, column].double().numpy()
            moved = _regress(boxes, offsets[0, :, row, column].T.double().numpy())
            keep = suppress(boxes, score, 0.5)
            found.append(np.column_stack((boxes, score, moved))[keep])
            scale *= self.factor
        proposals = np.concatenate(found)
        keep = suppress(proposals[:, :4], proposals[:, 4], 0.7)
        return _square(proposals[keep, 5:])

    def _refine(self, image: Image.Image, boxes: Floats) -> Floats:
        """R-Net on the proposals: fewer square boxes [N,4]."""
        if not len(boxes):
            return boxes
        scores, offsets = _batched(self.rnet, np.stack([_cut(image, box, 24) for box in boxes]))
        passed = scores >= self.thresholds[1]
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        keep = suppress(boxes, scores, 0.7)
        return _square(_regress(boxes[keep], offsets[keep]))

    def _output(self, image: Image.Image, boxes: Floats) -> Detections:
        """O-Net on what is left: boxes, scores and landmarks."""
        if not len(boxes):
            return Detections(boxes, np.empty(0), np.empty((0, 5, 2)))
        patches = np.stack([_cut(image, box, 48) for box in boxes])
        scores, offsets, landmarks = _batched(self.onet, patches)
        passed = scores >= self.thresholds[2]
        boxes, scores, offsets = boxes[passed], scores[passed], offsets[passed]
        sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
        points = boxes[:, None, :2] + landmarks[passed] * sides
        boxes = _regress(boxes, offsets)
        keep = suppress(boxes, scores, 0.7, of_smaller=True)
        return Detections(boxes[keep], scores[keep], points[keep])

    @torch.no_grad()
    def locate(self, image: Image.Image, points: Floats) -> Floats:
        """Five points [5,2], improved by averaging over many upright views of the face.

        One look of O-Net at 48x48 is off by about a pixel of its input. Shifted, scaled and
        mirrored looks average that out, and a face turned upright is what it was trained on.
        """
        centre, across, side = _frame(points)
        down = np.array([-across[1], across[0]])
        corner = np.floor(centre - 1.5 * side)
        ratio = 256 / (3 * side)
        region = _cut(image, np.concatenate((corner, corner + 3 * side)), 256)
        views, patches = [], []
        for factor, x, y in _VIEWS:
            axes = np.stack((across, down), axis=1) * (factor * side)
            origin = centre + axes @ (np.array([x, y]) - 0.5)
            views.append((origin, axes))
            patches.append(_sample(region, (origin - corner) * ratio, axes * ratio))
        straight = np.stack(patches)
        both = np.concatenate((straight, straight[:, :, ::-1]))
        landmarks = _batched(self.onet, both)[2]
        landmarks[len(views) :, :, 0] = 1 - landmarks[len(views) :, :, 0]
        landmarks[len(views) :] = landmarks[len(views) :, _MIRRORED]
        located = [
            origin + landmarks[index] @ axes.T
            for index, (origin, axes) in enumerate([*views, *views])
        ]
        mean: Floats = np.mean(located, axis=0)
        return mean


def suppress(
    boxes: Floats, scores: Floats, overlap: float, of_smaller: bool = False
) -> NDArray[np.intp]:
    """Non-maximum suppression: indices of boxes [N,4] to keep, the best score first.

    A box goes if its intersection with a better one is more than `overlap` of their union, or
    of the smaller box (`of_smaller`).
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.argsort(-scores, kind="stable")
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        top_left = np.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
        if of_smaller:
            whole = np.minimum(areas[best], areas[rest])
        else:
            whole = areas[best] + areas[rest] - shared
        order = rest[shared <= overlap * whole]
    return np.array(keep, dtype=np.intp)


def _regress(boxes: Floats, offsets: Floats) -> Floats:
    """Boxes [N,4] moved by offsets [N,4], which are fractions of their sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.concatenate((sides, sides), axis=1)


def _square(boxes: Floats) -> Floats:
    """Boxes [N,4] grown to squares about their centres; boxes without an area are left out."""
    sides = boxes[:, 2:] - boxes[:, :2]
    boxes, sides = boxes[sides.min(axis=1) > 1], sides[sides.min(axis=1) > 1]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = sides.max(axis=1, keepdims=True) / 2
    return np.concatenate((centres - half, centres + half), axis=1)


def _cut(image: Image.Image, box: Floats, size: int) -> Pixels:
    """The part of an image in a box, averaged or enlarged to [size,size,3]; black beyond it."""
    left, top = (math.floor(side) for side in box[:2])
    right, bottom = (math.ceil(side) for side in box[2:])
    part = image.crop((left, top, right, bottom))
    inside = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    shrinks = box[2] - box[0] > size
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(part.resize((size, size), method, box=inside))


def _sample(region: Pixels, origin: Floats, axes: Floats) -> Pixels:
    """A patch [48,48,3] of a region; axes [2,2] are its sides as columns, from its origin."""
    steps = axes / 96
    coefficients = (*steps[0], origin[0], *steps[1], origin[1])
    patch = Image.fromarray(region).transform(
        (96, 96), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(patch.reduce(2))


def _frame(points: Floats) -> tuple[Floats, Floats, float]:
    """Centre, unit vector to the right and side of the square that O-Net likes to see a face in."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    across = points[1] - points[0] + np.array([down[1], -down[0]])
    side = _SIDE * max(float(np.linalg.norm(points[1] - points[0])), float(np.linalg.norm(down)))
    return eyes + _CENTRE * down, across / np.linalg.norm(across), side


def _normalise(pixels: Pixels) -> Tensor:
    """Pixels [N,H,W,3] to network input [N,3,H,W]."""
    return (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() - 127.5) / 128


def _batched(network: nn.Module, patches: Pixels) -> list[Floats]:
    """Outputs of a network for patches [N,S,S,3], a bounded number at a time."""
    outputs = [
        network(_normalise(part)) for part in np.array_split(patches, -(-len(patches) // _BATCH))
    ]
    return [torch.cat(parts).double().numpy() for parts in zip(*outputs, strict=True)]
