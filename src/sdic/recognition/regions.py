"""Maps of a face's parts, from a person's matte and a face's mesh, and whether to trust the matte.

    alpha = RobustVideoMatting.pretrained()(images).alpha
    points = AttentionMesh.pretrained()(images).points
    maps, doubts = find_regions(alpha, points), find_doubts(alpha, points)

The matte tells people from the background, the mesh where the face is; what is left is told by its
place alone. So hair is what lies around the upper face, and clothes are all that is below the chin,
neck and long hair, too; what is doubtful (upper forehead, ears, shoulders and hair beside the jaw)
is neither.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.encoders.layers import resize_area, resize_bilinear
from sdic.errors import InputError
from sdic.recognition.mesh import LEFT_EYE, LIPS, RIGHT_EYE, check_points

# Outlines: the lower border from corner to corner, then the upper one back.
OUTER_LIPS = LIPS[:11] + LIPS[19:10:-1]
INNER_LIPS = LIPS[20:31] + LIPS[39:30:-1]
EYES = (LEFT_EYE[:9] + LEFT_EYE[15:8:-1], RIGHT_EYE[:9] + RIGHT_EYE[15:8:-1])
HULL_DIRECTIONS = 72
SUBROWS = 4  # lines for each row of pixels, on which a polygon is measured exactly
# Ears and the forehead's upper end lie beyond the mesh: hair begins where the face, so many times
# as large, ends.
FACE_GROWTH = 1.25
MOUTH_CORNERS = (LIPS[0], LIPS[10])

# What a trustworthy matte holds at least or at most; see `find_doubts`. The worst values of 181
# aligned portraits are .98, .87, .12 and .96.
FACE_INSIDE = 0.95
LARGEST_SHARE = 0.98
LARGEST_UNDECIDED = 0.2
CONNECTED = 0.75
CONNECTION_SIDE = 64  # of the small matte that connections are looked for in


class Regions(NamedTuple):
    """Maps of N faces, each [N,1,H,W] in [0,1], with edges as soft as a pixel or as the matte.

    Attributes:
        person: the matte, as far as it hangs together with the face: leaks into the background
            and other people are left out unless they touch.
        face: the part of it inside the outline of the mesh, which ends at the upper forehead.
        mouth: inside the outer border of the lips.
        inner_mouth: inside the inner border of the lips: teeth and tongue, or nothing.
        eyes: between the lids.
        hair: the part of the person around the face and above the mouth, where shoulders hardly
            reach; with hats, and with other people who touch.
        clothes: the part of the person below the chin: neck, clothes and long hair.
        background: what is not person.
    """

    person: Tensor
    face: Tensor
    mouth: Tensor
    inner_mouth: Tensor
    eyes: Tensor
    hair: Tensor
    clothes: Tensor
    background: Tensor


def find_regions(alpha: Tensor, points: Tensor) -> Regions:
    """Maps from mattes [N,1,H,W] in [0,1] and meshes [N,468,3] in pixels of the mattes.

    Below and above are those of the head, along the line of the eyes' outer corners.

    Raises:
        InputError: the shapes do not fit.
    """
    _check(alpha, points)
    plane = points[..., :2]
    size = (alpha.shape[2], alpha.shape[3])
    face = fill_polygons(_hull(plane), size)
    # One cell more, so that wisps of hair stay.
    near = nnf.max_pool2d(_connected(alpha, face), 3, 1, 1)
    person = alpha * resize_bilinear(near, size)
    centre = plane.mean(1, keepdim=True)
    grown = fill_polygons(_hull(centre + FACE_GROWTH * (plane - centre)), size)
    mouth, inner_mouth, *eyes = (
        fill_polygons(plane[:, list(outline)], size) for outline in (OUTER_LIPS, INNER_LIPS, *EYES)
    )
    across = nnf.normalize(plane[:, RIGHT_EYE[0]] - plane[:, LEFT_EYE[0]])
    down = torch.stack([-across[:, 1], across[:, 0]], 1)[..., None]
    below_mouth = _below((plane[:, MOUTH_CORNERS] @ down).mean(1), down, size)
    below_chin = _below((plane @ down).amax(1), down, size)
    return Regions(
        person=person,
        face=person * face,
        mouth=mouth,
        inner_mouth=inner_mouth,
        eyes=eyes[0] + eyes[1],
        hair=person * (1 - grown) * (1 - below_mouth),
        clothes=person * (1 - face) * below_chin,
        background=1 - person,
    )


def find_doubts(alpha: Tensor, points: Tensor) -> list[str | None]:
    """Why each matte [N,1,H,W] is not to be trusted, one sentence, or None if it is.

    The face, by the mesh [N,468,3], has to lie inside it; it must not take the whole picture for
    the person, nor leave much undecided, and most of it has to hang together with the face.

    Raises:
        InputError: the shapes do not fit.
    """
    _check(alpha, points)
    face = fill_polygons(_hull(points[..., :2]), (alpha.shape[2], alpha.shape[3]))
    inside = (alpha * face).sum((1, 2, 3)) / face.sum((1, 2, 3)).clamp_min(1)
    share = alpha.mean((1, 2, 3))
    undecided = ((alpha > 0.1) & (alpha < 0.9)).float().mean((1, 2, 3))
    small = resize_area(alpha, CONNECTION_SIDE)
    connected = (small * _connected(alpha, face)).sum((1, 2, 3)) / small.sum((1, 2, 3))
    return [_doubt(*values) for values in torch.stack([inside, share, undecided, connected], 1)]


def _doubt(inside: Tensor, share: Tensor, undecided: Tensor, connected: Tensor) -> str | None:
    if inside < FACE_INSIDE:
        return f"The matte holds {inside:.0%} of the face; at least {FACE_INSIDE:.0%} is expected."
    if share > LARGEST_SHARE:
        return (
            f"The matte takes {share:.0%} of the picture for the person; at most"
            f" {LARGEST_SHARE:.0%} is expected."
        )
    if undecided > LARGEST_UNDECIDED:
        return (
            f"The matte leaves {undecided:.0%} of the picture undecided; at most"
            f" {LARGEST_UNDECIDED:.0%} is expected."
        )
    if connected < CONNECTED:
        return (
            f"The matte is in pieces: {connected:.0%} of it hangs together with the face; at least"
            f" {CONNECTED:.0%} is expected."
        )
    return None


def _connected(alpha: Tensor, face: Tensor) -> Tensor:
    """The part of mattes [N,1,H,W] that hangs together with the faces: [N,1,64,64], 0 or 1."""
    solid = (resize_area(alpha, CONNECTION_SIDE) > 0.5).to(alpha)
    reached = solid * (resize_area(face, CONNECTION_SIDE) > 0.5)
    while not torch.equal(grown := nnf.max_pool2d(reached, 3, 1, 1) * solid, reached):
        reached = grown
    return reached


def fill_polygons(polygons: Tensor, size: tuple[int, int]) -> Tensor:
    """Which share of each pixel lies inside polygons [N,K,2] (x, y): [N,1,H,W] in [0,1].

    Exact along each of the four lines that every row of pixels is measured on. A line that crosses
    an edge is inside from there on, or no longer; the sum over its crossings tells by how much.
    Where an outline crosses itself, both sides count as inside.
    """
    height, width = size
    count = len(polygons)
    y = (torch.arange(height * SUBROWS).to(polygons) + 0.5) / SUBROWS
    start, end = polygons[..., None], polygons.roll(-1, 1)[..., None]
    (x0, y0), (x1, y1) = start.unbind(2), end.unbind(2)
    sign = (y1 <= y).to(y) - (y0 <= y).to(y)  # [N,K,rows]: whether and which way an edge crosses
    steepness = torch.where(y1 == y0, 1.0, y1 - y0)
    x = (x0 + (y - y0) / steepness * (x1 - x0)).clamp(0, width)
    column = x.detach().floor()
    beyond = x - column
    lines = polygons.new_zeros(count, height * SUBROWS, width + 2)
    for offset, weight in ((0, 1 - beyond), (1, beyond)):
        index = column.long().transpose(1, 2) + offset
        lines = lines.scatter_add(2, index, (sign * weight).transpose(1, 2))
    inside = lines.cumsum(2)[..., :width].abs().clamp(max=1)
    return inside.reshape(count, 1, height, SUBROWS, width).mean(3)


def _hull(points: Tensor) -> Tensor:
    """The convex hull of points [N,K,2], as polygons [N,72,2] of the outermost in 72 directions."""
    angles = torch.arange(HULL_DIRECTIONS).to(points) * (2 * math.pi / HULL_DIRECTIONS)
    directions = torch.stack([angles.cos(), angles.sin()])
    outermost = (points @ directions).argmax(1)
    return points.gather(1, outermost[..., None].expand(-1, -1, 2))


def _below(depth: Tensor, down: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels lie deeper than [N,1] along directions [N,2,1]: [N,1,H,W], soft over a pixel."""
    y, x = (torch.arange(side).to(depth) + 0.5 for side in size)
    pixels = down[:, 1, :, None] * y[:, None] + down[:, 0, :, None] * x
    return (pixels - depth[..., None] + 0.5).clamp(0, 1)[:, None]


def _check(alpha: Tensor, points: Tensor) -> None:
    check_points(points)
    if alpha.ndim != 4 or alpha.shape[:2] != (len(points), 1):
        raise InputError(
            f"Mattes of shape {tuple(alpha.shape)} were given with {len(points)} meshes; expected"
            " Nx1xHxW of as many."
        )
