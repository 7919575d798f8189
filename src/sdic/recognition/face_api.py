"""The small networks of face-api: 68 landmarks, seven expressions, age and gender.

npm package `@vladmandic/face-api` (MIT); weights quantised to 8 bits. Landmarks and expressions
share a trunk of four densely connected blocks of separable convolutions; age and gender stand on
a small Xception (arXiv 1610.02357).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import SameConv2d
from sdic.recognition.base import Network, of_kind
from sdic.recognition.preprocessing import DLIB_MEAN, Crop, subtract, to_bytes
from sdic.recognition.tensorflow import SeparableConv2d, TensorReader, max_pool_same

# Of five crops this one brought the three networks closest to dlib's landmarks, to faceres and to
# emotion, on 60 real and 40 generated faces.
CROP = Crop(rows=(60, 240), columns=(38, 218), size=112)
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def preprocess(images: Tensor) -> Tensor:
    """Images [N,3,256,256] in [-1,1] to the input of all three networks, [N,3,112,112]."""
    return subtract(to_bytes(CROP(images)), DLIB_MEAN) / 255


def _read_separable(reader: TensorReader, layer: SeparableConv2d, prefix: str) -> None:
    reader.fill_separable(
        layer, f"{prefix}/depthwise_filter", f"{prefix}/pointwise_filter", f"{prefix}/bias"
    )


class _DenseBlock(nn.Module):
    """Four convolutions; each sees the sum of all before it. The first halves the side."""

    def __init__(self, in_chs: int, out_chs: int, *, first: bool) -> None:
        super().__init__()
        kind = SeparableConv2d(in_chs, out_chs, 2)
        self.layers = nn.ModuleList([SameConv2d(3, out_chs, 3, 2) if first else kind])
        self.layers.extend(SeparableConv2d(out_chs, out_chs) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        total = x = nnf.relu(self.layers[0](x))
        for layer in self.layers[1:]:
            total = total + layer(x)
            x = nnf.relu(total)
        return x


class _DenseNetwork(Network):
    """The shared trunk and one matrix on its pooled features [N,256]."""

    outputs: int

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        self.blocks = nn.ModuleList(
            _DenseBlock(widths[i], widths[i + 1], first=i == 0) for i in range(4)
        )
        self.head = nn.Linear(widths[-1], self.outputs)

    def judge_inputs(self, inputs: Tensor) -> Tensor:
        """The network itself: inputs [N,3,112,112] to [N,outputs]."""
        x = inputs
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.head(x.mean((2, 3)))
        return result

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights."""
        reader = TensorReader(self.name, tensors)
        for i, block in enumerate(of_kind(self.blocks, _DenseBlock)):
            for j, layer in enumerate(block.layers):
                prefix = f"dense{i}/conv{j}"
                if isinstance(layer, SeparableConv2d):
                    _read_separable(reader, layer, prefix)
                elif isinstance(layer, SameConv2d):
                    reader.fill(layer, f"{prefix}/filters", f"{prefix}/bias")
        reader.fill(self.head, "fc/weights", "fc/bias")
        reader.finish()


class FaceApiExpression(_DenseNetwork):
    """Seven expressions: images [N,3,256,256] in [-1,1] to logits [N,7], as in `EXPRESSIONS`."""

    name = "face-api-expression"
    weights = "face-api-expression"
    outputs = len(EXPRESSIONS)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to logits [N,7]."""
        return self.judge_inputs(preprocess(images))


class FaceApiLandmarks(_DenseNetwork):
    """The 68 points of iBUG 300-W: images [N,3,256,256] in [-1,1] to pixels [N,68,2].

    A point is (x, y) in pixels of the aligned image; (0, 0) is its top left corner.
    """

    name = "face-api-landmarks"
    weights = "face-api-landmarks"
    outputs = 136

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to points [N,68,2] in pixels of the aligned image."""
        points = self.judge_inputs(preprocess(images)).reshape(-1, 68, 2)
        side = CROP.rows[1] - CROP.rows[0]
        corner = points.new_tensor([CROP.columns[0], CROP.rows[0]])
        return points * side + corner


class AgeGender(NamedTuple):
    """Age and gender of N faces.

    Attributes:
        age: [N], years.
        gender: [N], logit; positive is male.
    """

    age: Tensor
    gender: Tensor


class _Reduction(nn.Module):
    """Two separable convolutions and a pool, beside a strided 1x1."""

    def __init__(self, in_chs: int, out_chs: int, *, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        self.first = SeparableConv2d(in_chs, out_chs)
        self.second = SeparableConv2d(out_chs, out_chs)
        self.expansion = SameConv2d(in_chs, out_chs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(nnf.relu(self.first(nnf.relu(x) if self.activate else x)))
        shortcut: Tensor = self.expansion(x)
        return max_pool_same(y) + shortcut

    def read(self, reader: TensorReader, prefix: str) -> None:
        _read_separable(reader, self.first, f"{prefix}/separable_conv0")
        _read_separable(reader, self.second, f"{prefix}/separable_conv1")
        expansion = f"{prefix}/expansion_conv"
        reader.fill(self.expansion, f"{expansion}/filters", f"{expansion}/bias")


class FaceApiAgeGender(Network):
    """Age and gender of images [N,3,256,256] in [-1,1]."""

    name = "face-api-age-gender"
    weights = "face-api-age-gender"

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        self.entry = nn.ModuleList([_Reduction(32, 64, activate=False), _Reduction(64, 128)])
        # Two blocks of three convolutions.
        self.middle = nn.ModuleList(SeparableConv2d(128, 128) for _ in range(6))
        self.exit = _Reduction(128, 256)
        self.last = SeparableConv2d(256, 512)
        self.age = nn.Linear(512, 1)
        self.gender = nn.Linear(512, 2)

    def judge_inputs(self, inputs: Tensor) -> AgeGender:
        """The network itself, on inputs [N,3,112,112]."""
        x = nnf.relu(self.stem(inputs))
        for reduction in self.entry:
            x = reduction(x)
        for block in (self.middle[:3], self.middle[3:]):
            y = x
            for layer in block:
                y = layer(nnf.relu(y))
            x = x + y
        features = nnf.relu(self.last(self.exit(x))).mean((2, 3))
        gender = self.gender(features)
        return AgeGender(self.age(features).flatten(), gender[:, 0] - gender[:, 1])

    def forward(self, images: Tensor) -> AgeGender:
        """Age and gender of images [N,3,256,256] in [-1,1]."""
        return self.judge_inputs(preprocess(images))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights."""
        reader = TensorReader(self.name, tensors)
        reader.fill(self.stem, "entry_flow/conv_in/filters", "entry_flow/conv_in/bias")
        for i, reduction in enumerate(of_kind(self.entry, _Reduction)):
            reduction.read(reader, f"entry_flow/reduction_block_{i}")
        for i, layer in enumerate(of_kind(self.middle, SeparableConv2d)):
            prefix = f"middle_flow/main_block_{i // 3}/separable_conv{i % 3}"
            _read_separable(reader, layer, prefix)
        self.exit.read(reader, "exit_flow/reduction_block")
        _read_separable(reader, self.last, "exit_flow/separable_conv")
        reader.fill(self.age, "fc/age/weights", "fc/age/bias")
        reader.fill(self.gender, "fc/gender/weights", "fc/gender/bias")
        reader.finish()
