"""The face mesh: against its own runtime, pose in closed form, and the crop that it looks at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recognition_images import DATA, generated_faces, smooth_image
from sdic import weights
from sdic.errors import InputError, WeightsError
from sdic.images import resize_antialiased
from sdic.recognition import mesh
from sdic.recognition.mesh import LEFT_EYE, LIPS, MEAN_FACE, POINTS, RIGHT_EYE, AttentionMesh


def turned(angle: float) -> Tensor:
    """Rotation [2,2] of column vectors, clockwise in the image, by degrees."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[c, -s], [s, c]])


def rotation(yaw: float, pitch: float, roll: float) -> Tensor:
    """Rotation [3,3] of (right, down, away), in degrees: yaw first, then pitch, then roll."""
    about_down, about_right, about_view = torch.eye(3), torch.eye(3), torch.eye(3)
    about_down[[[0], [2]], [0, 2]] = turned(yaw)
    about_right[[[1], [2]], [1, 2]] = turned(-pitch)
    about_view[:2, :2] = turned(roll)
    return about_view @ about_right @ about_down


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (40, 0, 0), (0, -25, 0), (0, 0, 30), (-65, 0, 0)]
)
def test_pose_of_a_turned_mean_face(yaw: float, pitch: float, roll: float) -> None:
    points = torch.randn(1, POINTS, 3, generator=torch.Generator().manual_seed(0))
    model = torch.tensor(list(MEAN_FACE.values()))
    points[0, list(MEAN_FACE)] = 70 * model @ rotation(yaw, pitch, roll).T + 120
    found = mesh.pose(points)
    for angle, expected in zip(found, (yaw, pitch, roll), strict=True):
        assert angle.item() == pytest.approx(expected, abs=1e-3)


def test_pose_is_a_rotation_even_of_a_mirrored_depth() -> None:
    points = torch.zeros(1, POINTS, 3)
    model = torch.tensor(list(MEAN_FACE.values()))
    points[0, list(MEAN_FACE)] = model * torch.tensor([1.0, 1.0, -0.1])
    assert max(abs(angle.item()) for angle in mesh.pose(points)) < 90


def test_mean_face_is_symmetric() -> None:
    mirrored = {(-x, y, z) for x, y, z in MEAN_FACE.values()}
    assert mirrored == set(MEAN_FACE.values())


def test_other_points_are_refused() -> None:
    with pytest.raises(InputError, match="Nx468x3"):
        mesh.pose(torch.zeros(1, 68, 2))


def test_gradients_reach_the_image_and_other_inputs_are_refused() -> None:
    torch.manual_seed(0)
    network = AttentionMesh().freeze()
    x = smooth_image().requires_grad_()
    network(x).points.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(InputError, match="Nx3xSxS"):
        network(torch.zeros(1, 3, 256, 128))
    with pytest.raises(InputError, match="floating point"):
        network(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    with pytest.raises(WeightsError, match="facemesh-attention"):
        network.load_tensors({})
    assert AttentionMesh.weights in weights.names()


@pytest.mark.network
def test_against_tensorflow_js() -> None:
    with np.load(DATA / "matte_mesh.npz") as stored:
        references = {key: torch.from_numpy(stored[key]) for key in stored.files}
    network = AttentionMesh.pretrained()
    inputs = (resize_antialiased(generated_faces(), mesh.SIZE) + 1) / 2
    points, irises, score = network.judge_inputs(inputs)
    expected = references["mesh"].clone()
    for name, part in (("lips", LIPS), ("left_eye", LEFT_EYE), ("right_eye", RIGHT_EYE)):
        expected[:, list(part), :2] = references[name]
    # In pixels of 192.
    assert torch.allclose(points, expected, atol=5e-3)
    expected = torch.stack([references["left_iris"], references["right_iris"]], 1)
    assert torch.allclose(irises, expected, atol=5e-3)
    assert (score > 10).all()


@pytest.mark.network
def test_noise_is_no_face() -> None:
    assert AttentionMesh.pretrained()(smooth_image()).score.item() < 0


@pytest.mark.network
def test_points_do_not_depend_on_size_and_place_of_the_crop() -> None:
    network = AttentionMesh.pretrained()
    faces = generated_faces()
    points = network(faces).points
    larger = F.interpolate(faces, (512, 512), mode="bilinear")
    assert (network(larger).points / 2 - points).abs().mean() < 0.5
    # The same faces turned by 15 degrees, smaller, and to the right.
    to_source, shift = turned(-15) / 0.9, torch.tensor([8.0, -3.0])
    matrix = torch.cat([to_source, -(to_source @ shift / 128)[:, None]], 1)
    grid = F.affine_grid(matrix.expand(2, 2, 3), [2, 3, 256, 256], align_corners=False)
    moved = network(F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False))
    back = (moved.points[..., :2] - 128 - shift) @ to_source.T + 128
    assert (back - points[..., :2]).norm(dim=2).mean() < 1.5
    before, after = mesh.pose(points), mesh.pose(moved.points)
    assert torch.allclose(after.roll - before.roll, torch.full((2,), 15.0), atol=1.5)
    assert torch.allclose(after.yaw, before.yaw, atol=4.0)


@pytest.mark.network
def test_eyes_and_irises_are_where_they_should_be() -> None:
    found = AttentionMesh.pretrained()(generated_faces())
    for points, irises in zip(found.points, found.irises, strict=True):
        for eye, iris in zip((LEFT_EYE, RIGHT_EYE), irises, strict=True):
            outline = points[list(eye[:16]), :2]
            # An iris may reach below the lids, but its middle lies between the corners.
            assert outline[:, 0].min() < iris[0, 0] < outline[:, 0].max()
            assert outline[:, 1].min() - 2 < iris[0, 1] < outline[:, 1].max() + 2
        lower, upper = points[[17, 14], 1], points[[0, 13], 1]
        assert (lower > upper).all()
    # The first looks a little to the right, the second far to the left.
    yaw = mesh.pose(found.points).yaw
    assert yaw[1] < -20 < 5 < yaw[0]
