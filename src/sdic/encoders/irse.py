"""IR-SE50, the face trunk of ArcFace (Deng 2019) with squeeze-and-excitation (Hu 2018).

Parameter names are those that ArcFace and e4e checkpoints use.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

# Of each stage: channels out, number of blocks. The first block of a stage halves the side.
IRSE50_STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in (0,1) that is computed from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N,C,H,W] to [N,C,H,W]."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class Bottleneck(nn.Module):
    """IR block: BN -> 3x3 -> PReLU -> 3x3 (stride) -> BN [-> squeeze-excitation], plus a shortcut.

    The shortcut is a 1x1 convolution where the number of channels changes, else a subsampling.
    """

    def __init__(
        self, in_chs: int, out_chs: int, stride: int = 1, squeeze_excitation: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer = (
            nn.Sequential(
                nn.Conv2d(in_chs, out_chs, 1, stride, bias=False), nn.BatchNorm2d(out_chs)
            )
            if in_chs != out_chs
            else None
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_chs),
            nn.Conv2d(in_chs, out_chs, 3, 1, 1, bias=False),
            nn.PReLU(out_chs),
            nn.Conv2d(out_chs, out_chs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_chs),
        )
        if squeeze_excitation:
            self.res_layer.append(SqueezeExcitation(out_chs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N,C,H,W] to [N,O,H/stride,W/stride]."""
        if self.shortcut_layer is not None:
            shortcut = self.shortcut_layer(x)
        else:
            shortcut = x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]
        return self.res_layer(x) + shortcut  # type: ignore[no-any-return]


class IRSE50(nn.Module):
    """Images to feature maps at 1/4, 1/8 and 1/16 of their side.

    Args:
        stages: (channels, number of blocks) of the four stages.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = IRSE50_STAGES) -> None:
        super().__init__()
        in_chs = stages[0][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, in_chs, 3, 1, 1, bias=False), nn.BatchNorm2d(in_chs), nn.PReLU(in_chs)
        )
        self.body = nn.Sequential()
        ends = []
        for out_chs, num_blocks in stages:
            for i in range(num_blocks):
                self.body.append(Bottleneck(in_chs, out_chs, 2 if i == 0 else 1))
                in_chs = out_chs
            ends.append(len(self.body) - 1)
        self.taps = tuple(ends[1:])
        self.out_chs = tuple(channels for channels, _ in stages[1:])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N,3,H,W] to c1 [N,128,H/4,W/4], c2 [N,256,H/8,W/8], c3 [N,512,H/16,W/16]."""
        x = self.input_layer(images)
        taps: OrderedDict[int, Tensor] = OrderedDict()
        for i, block in enumerate(self.body):
            x = block(x)
            if i in self.taps:
                taps[i] = x
        c1, c2, c3 = taps.values()
        return c1, c2, c3
