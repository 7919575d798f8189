"""What 68 landmarks say: the pose of the head, and how open mouth and eyes are.

Points follow iBUG 300-W, as (x, y) in pixels: x to the right, y downwards, pixel i from i to i + 1.
All measures are differentiable in the points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdic.errors import InputError

POINTS = 68
# A mean face for points that expressions hardly move: right in the image, down, away from the
# camera; the outer eye corners lie 1 apart. Found by alternating least squares (pose of each face,
# then shape) from dlib's landmarks of 120 generated faces and their mirror images, and turned so
# that their mean pitch is 0.
MEAN_FACE = {
    36: (-0.500, -0.287, 0.203),
    39: (-0.214, -0.271, 0.136),
    42: (0.214, -0.271, 0.136),
    45: (0.500, -0.287, 0.203),
    27: (0.000, -0.320, -0.073),
    28: (0.000, -0.180, -0.156),
    29: (0.000, -0.042, -0.251),
    30: (0.000, 0.100, -0.337),
    31: (-0.170, 0.199, -0.084),
    33: (0.000, 0.254, -0.162),
    35: (0.170, 0.199, -0.084),
    48: (-0.341, 0.453, 0.234),
    54: (0.341, 0.453, 0.234),
}
EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
INNER_LIPS = ((61, 67), (62, 66), (63, 65))


class Pose(NamedTuple):
    """How N heads are turned, in degrees, each [N].

    Attributes:
        yaw: positive if the face turns towards the right of the image.
        pitch: positive if it turns up; 0 is the mean of generated faces.
        roll: positive if it leans clockwise in the image.
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor


def pose(points: Tensor) -> Pose:
    """Pose of heads from points [N,68,2], by a mean face under weak perspective.

    The least-squares affine camera A [2,3] from the mean face to the points is brought to the
    nearest scaled rotation, (A A^T)^(-1/2) A; its rows are the first two of the rotation.

    Raises:
        InputError: points are not [N,68,2].
    """
    _check_points(points)
    model = points.new_tensor(list(MEAN_FACE.values()))
    model = model - model.mean(0)
    seen = points[:, list(MEAN_FACE)]
    seen = seen - seen.mean(1, keepdim=True)
    cameras = (torch.linalg.pinv(model) @ seen).transpose(1, 2)
    right, down = _nearest_rotation(cameras).unbind(1)
    return pose_of(torch.stack([right, down, torch.linalg.cross(right, down)], 1))


def pose_of(rotations: Tensor) -> Pose:
    """Pose of rotations [N,3,3] from the mean face: rows are right, down and away in the image."""
    right, down, away = rotations.unbind(1)
    yaw = torch.atan2(-right[:, 2], away[:, 2])
    pitch = torch.asin(down[:, 2].clamp(-1, 1))
    roll = torch.atan2(down[:, 0], right[:, 0])
    return Pose(*(torch.rad2deg(angle) for angle in (yaw, pitch, roll)))


def mouth_open(points: Tensor) -> Tensor:
    """Mean gap of the inner lips over the distance of the outer eye corners: [N,68,2] to [N].

    0 is closed; about .35 is wide open. The eyes are the measure because a smile widens the mouth.

    Raises:
        InputError: points are not [N,68,2].
    """
    _check_points(points)
    gaps = [_distance(points, upper, lower) for upper, lower in INNER_LIPS]
    return torch.stack(gaps).mean(0) / _distance(points, EYES[0][0], EYES[1][3])


def eyes_open(points: Tensor) -> Tensor:
    """Eye aspect ratio, mean of both eyes (Soukupova and Cech 2016): [N,68,2] to [N].

    Height of the opening over its width: about .1 is closed, .3 is open.

    Raises:
        InputError: points are not [N,68,2].
    """
    _check_points(points)
    ratios = []
    for left, top_left, top_right, right, bottom_right, bottom_left in EYES:
        height = _distance(points, top_left, bottom_left)
        height = height + _distance(points, top_right, bottom_right)
        ratios.append(height / (2 * _distance(points, left, right)))
    return torch.stack(ratios).mean(0)


def _nearest_rotation(cameras: Tensor) -> Tensor:
    """Polar factor [N,2,3] of [N,2,3]: (A A^T)^(-1/2) A, with the root of a 2x2 in closed form."""
    gram = cameras @ cameras.transpose(1, 2)
    root_determinant = torch.linalg.det(gram).clamp_min(0).sqrt()
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    scale = (trace + 2 * root_determinant).sqrt()
    root = (gram + root_determinant[:, None, None] * eye) / scale[:, None, None]
    rotations: Tensor = torch.linalg.solve(root, cameras)
    return rotations


def _distance(points: Tensor, first: int, second: int) -> Tensor:
    distances: Tensor = torch.linalg.vector_norm(points[:, first] - points[:, second], dim=1)
    return distances


def _check_points(points: Tensor) -> None:
    if points.ndim != 3 or tuple(points.shape[1:]) != (POINTS, 2):
        raise InputError(
            f"Landmarks of shape Nx{POINTS}x2 were expected, not {tuple(points.shape)}: give the"
            " points of a 68-landmark network."
        )
