"""Maps of a face's parts on planted mattes and meshes, and on whole runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from recognition_images import generated_faces
from sdic import alignment
from sdic.errors import InputError
from sdic.recognition.matte import RobustVideoMatting
from sdic.recognition.mesh import LEFT_EYE, POINTS, RIGHT_EYE, AttentionMesh
from sdic.recognition.regions import (
    EYES,
    FACE_GROWTH,
    INNER_LIPS,
    MOUTH_CORNERS,
    OUTER_LIPS,
    Regions,
    fill_polygons,
    find_doubts,
    find_regions,
)

SIZE = 128
CENTRE = torch.tensor([64.0, 60.0])
RADIUS = 30.0


def circle(count: int, radius: float, centre: Tensor) -> Tensor:
    angles = torch.arange(count) * (2 * math.pi / count)
    return centre + radius * torch.stack([angles.cos(), angles.sin()], 1)


def ellipse_from_corner(count: int, width: float, height: float, centre: Tensor) -> Tensor:
    """An outline that begins at its left corner and goes along its lower border."""
    ring = circle(count, 1.0, torch.zeros(2))
    return centre + torch.stack([-ring[:, 0] * width, ring[:, 1] * height], 1)


def planted_mesh() -> Tensor:
    """A round face of radius 30 about (64, 60), with elliptic lips and eyes: [1,468,3]."""
    points = torch.zeros(1, POINTS, 3)
    points[0, :, :2] = circle(POINTS, RADIUS, CENTRE)
    mouth = CENTRE + torch.tensor([0.0, 14.0])
    points[0, list(OUTER_LIPS), :2] = ellipse_from_corner(len(OUTER_LIPS), 10, 5, mouth)
    points[0, list(INNER_LIPS), :2] = ellipse_from_corner(len(INNER_LIPS), 8, 2, mouth)
    for outline, side in zip(EYES, (-1, 1), strict=True):
        eye = ellipse_from_corner(
            len(outline), 5 * -side, 2, CENTRE + torch.tensor([12.0 * side, -6.0])
        )
        points[0, list(outline), :2] = eye
    return points


def box_matte(left: int, top: int, right: int, bottom: int) -> Tensor:
    alpha = torch.zeros(1, 1, SIZE, SIZE)
    alpha[..., top:bottom, left:right] = 1
    return alpha


def ellipse_area(count: int, width: float, height: float) -> float:
    return count / 2 * math.sin(2 * math.pi / count) * width * height


def test_polygons_are_filled_by_their_area() -> None:
    rectangle = torch.tensor([[[10.25, 12.5], [30.0, 12.5], [30.0, 50.0], [10.25, 50.0]]])
    filled = fill_polygons(rectangle, (64, 48))
    assert filled.shape == (1, 1, 64, 48)
    assert filled.sum().item() == pytest.approx(19.75 * 37.5, rel=1e-5)
    assert filled[0, 0, 20, 10].item() == pytest.approx(0.75)
    assert filled[0, 0, 12, 20].item() == pytest.approx(0.5)
    ring = circle(36, 15.3, torch.tensor([32.0, 31.2]))[None]
    for polygon in (ring, ring.flip(1)):
        filled = fill_polygons(polygon, (64, 64))
        assert filled.sum().item() == pytest.approx(ellipse_area(36, 15.3, 15.3), rel=1e-3)
        x = (filled.sum((0, 1, 2)) * (torch.arange(64) + 0.5)).sum() / filled.sum()
        assert x.item() == pytest.approx(32, abs=1e-3)


def test_polygons_may_reach_beyond_the_picture_and_cross_themselves() -> None:
    around = torch.tensor([[[-9.0, -9.0], [99.0, -9.0], [99.0, 99.0], [-9.0, 99.0]]])
    assert torch.equal(fill_polygons(around, (20, 30)), torch.ones(1, 1, 20, 30))
    beside = around + torch.tensor([200.0, 0.0])
    assert fill_polygons(beside, (20, 30)).sum() == 0
    bow = torch.tensor([[[10.0, 10.0], [30.0, 30.0], [30.0, 10.0], [10.0, 30.0]]])
    assert fill_polygons(bow, (40, 40)).sum().item() == pytest.approx(200, rel=0.02)


def test_areas_of_a_planted_face() -> None:
    alpha = box_matte(20, 10, 108, 128)
    maps = find_regions(alpha, planted_mesh())
    for name, value in maps._asdict().items():
        assert value.shape == (1, 1, SIZE, SIZE), name
        assert 0 <= value.min() <= value.max() <= 1, name
    area = {name: value.sum().item() for name, value in maps._asdict().items()}
    assert area["person"] == pytest.approx(88 * 118)
    assert area["background"] == pytest.approx(SIZE**2 - 88 * 118)
    disc = math.pi * RADIUS**2
    assert area["face"] == pytest.approx(disc, rel=5e-3)
    assert area["mouth"] == pytest.approx(ellipse_area(20, 10, 5), rel=1e-2)
    assert area["inner_mouth"] == pytest.approx(ellipse_area(20, 8, 2), rel=2e-2)
    assert area["eyes"] == pytest.approx(2 * ellipse_area(16, 5, 2), rel=1e-2)
    # From the top of the matte to the mouth's corners at 74, less the grown disc above them.
    radius, depth = FACE_GROWTH * RADIUS, 14
    above = radius**2 * (math.pi - math.acos(depth / radius)) + depth * math.sqrt(
        radius**2 - depth**2
    )
    assert area["hair"] == pytest.approx(88 * 64 - above, rel=2e-2)
    # Below the chin at 90.
    assert area["clothes"] == pytest.approx(88 * 38, rel=5e-3)


def test_parts_of_the_person_do_not_overlap() -> None:
    maps = find_regions(box_matte(20, 10, 108, 128) * 0.7, planted_mesh())
    assert (maps.face + maps.hair + maps.clothes <= maps.person + 1e-5).all()
    assert torch.allclose(maps.person + maps.background, torch.ones(1))
    assert (maps.inner_mouth <= maps.mouth + 1e-5).all()


def test_maps_turn_with_the_head() -> None:
    points = planted_mesh()
    quarter = torch.stack([SIZE - points[..., 1], points[..., 0], points[..., 2]], 2)
    alpha = box_matte(20, 10, 108, 128)
    upright = find_regions(alpha, points)
    lying = find_regions(alpha.rot90(-1, (2, 3)), quarter)
    for name, value in upright._asdict().items():
        turned = value.rot90(-1, (2, 3))
        assert (turned - getattr(lying, name)).abs().mean() < 2e-3, name


def test_what_does_not_touch_is_not_the_person() -> None:
    alpha = box_matte(30, 10, 100, 128)
    with_another = alpha + box_matte(0, 20, 14, 100)
    maps = find_regions(with_another, planted_mesh())
    assert maps.person[..., :14].sum() == 0
    assert torch.allclose(maps.person[..., 30:], alpha[..., 30:])


@dataclass(frozen=True)
class Doubtful:
    alpha: Tensor
    said: str | None


@pytest.mark.parametrize(
    "case",
    [
        Doubtful(box_matte(20, 10, 108, 128), None),
        Doubtful(box_matte(20, 10, 64, 128), "of the face; at least 95%"),
        Doubtful(torch.zeros(1, 1, SIZE, SIZE), "holds 0% of the face"),
        Doubtful(torch.ones(1, 1, SIZE, SIZE), "100% of the picture"),
        Doubtful(box_matte(30, 10, 100, 100) + 0.3 * box_matte(0, 100, 128, 128), "undecided"),
        Doubtful(box_matte(30, 28, 98, 92) + box_matte(100, 0, 128, 128), "in pieces"),
    ],
    ids=["good", "half a face", "empty", "full", "undecided", "pieces"],
)
def test_doubtful_mattes_are_told(case: Doubtful) -> None:
    (doubt,) = find_doubts(case.alpha, planted_mesh())
    if case.said is None:
        assert doubt is None
    else:
        assert doubt is not None
        assert case.said in doubt


def test_each_matte_is_doubted_by_itself() -> None:
    alpha = torch.cat([box_matte(20, 10, 108, 128), torch.zeros(1, 1, SIZE, SIZE)])
    first, second = find_doubts(alpha, planted_mesh().repeat(2, 1, 1))
    assert first is None
    assert second is not None


def test_shapes_that_do_not_fit_are_refused() -> None:
    alpha = box_matte(20, 10, 108, 128)
    for function in (find_regions, find_doubts):
        with pytest.raises(InputError, match="Nx468x3"):
            function(alpha, torch.zeros(1, 68, 2))
        with pytest.raises(InputError, match="Nx1xHxW"):
            function(alpha[:, 0], planted_mesh())
        with pytest.raises(InputError, match="2 meshes"):
            function(alpha, planted_mesh().repeat(2, 1, 1))


def found(images: Tensor) -> tuple[Regions, Tensor, list[str | None]]:
    with torch.no_grad():
        alpha = RobustVideoMatting.pretrained()(images).alpha
        points = AttentionMesh.pretrained()(images).points
        return find_regions(alpha, points), points, find_doubts(alpha, points)


@pytest.mark.network
def test_generated_faces_have_their_parts() -> None:
    faces = generated_faces()
    maps, points, doubts = found(faces)
    assert doubts == [None, None]
    # Teeth are lighter than lips, and lips redder than the skin.
    light = faces.mean(1, keepdim=True)
    redness = faces[:, :1] - faces[:, 1:].mean(1, keepdim=True)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum((1, 2, 3)) / where.sum((1, 2, 3))

    lips = maps.mouth - maps.inner_mouth
    skin = maps.face - maps.face * (maps.mouth + maps.eyes).clamp(max=1)
    assert (mean(light, maps.inner_mouth) > mean(light, lips)).all()
    assert (mean(redness, lips) > mean(redness, skin) + 0.05).all()
    assert (mean(light, maps.hair) < mean(light, skin) - 0.3).all()
    assert (maps.face.mean((1, 2, 3)) > 0.2).all()
    assert (points[:, MOUTH_CORNERS[0], 0] < points[:, MOUTH_CORNERS[1], 0]).all()
    assert (points[:, LEFT_EYE[0], 0] < points[:, RIGHT_EYE[0], 0]).all()


@pytest.mark.network
def test_the_astronaut_has_her_parts() -> None:
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()
    (place,) = alignment.find_places(photo)
    crop = torch.from_numpy(alignment.crop(photo, place, 256)).permute(2, 0, 1)[None]
    maps, _, doubts = found(crop.float() / 127.5 - 1)
    assert doubts == [None]
    share = {name: value.mean().item() for name, value in maps._asdict().items()}
    assert 0.6 < share["person"] < 0.75
    assert 0.25 < share["face"] < 0.32
    assert 0.15 < share["hair"] < 0.25
    assert 0.01 < share["mouth"] < 0.025
    assert 0.003 < share["inner_mouth"] < share["mouth"]
    # Her hair is above her clothes, and her mouth below her eyes.
    rows = torch.arange(256.0)[:, None]
    height = {k: (v * rows).sum().item() / v.sum().item() for k, v in maps._asdict().items()}
    assert height["hair"] < height["eyes"] < height["mouth"] < height["clothes"]
