"""Small layers that the encoders, DIPN and DICN are built of."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.images import resize_area as resize_area
from sdic.images import resize_bilinear as resize_bilinear

Size = int | tuple[int, ...]

_CONVOLUTIONS: dict[tuple[int, bool], type[nn.Module]] = {
    (2, False): nn.Conv2d,
    (2, True): nn.ConvTranspose2d,
    (3, False): nn.Conv3d,
    (3, True): nn.ConvTranspose3d,
}


class EqualizedLinear(nn.Linear):
    """Linear layer with equalised learning rate (Karras 2018): the weight is stored at scale 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [...,C] to [...,O]."""
        return nnf.linear(x, self.weight / math.sqrt(self.in_features), self.bias)

    def reset_parameters(self) -> None:
        """Weights from a standard normal, bias zero."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)


class EqualizedConv2d(nn.Conv2d):
    """Convolution with equalised learning rate: the weight is stored at scale 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N,C,H,W] to [N,O,H',W']."""
        scale = 1 / math.sqrt(self.weight[0].numel())
        return self._conv_forward(x, self.weight * scale, self.bias)  # type: ignore[no-any-return]

    def reset_parameters(self) -> None:
        """Weights from a standard normal, bias zero."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ScaledLeakyReLU(nn.Module):
    """StyleGAN's leaky ReLU: slope 0.2, times the square root of 2 to keep the variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return nnf.leaky_relu(x, 0.2) * math.sqrt(2)


class ConvNorm(nn.Sequential):
    """Convolution without bias -> batch norm -> leaky ReLU (slope 0.01).

    Args:
        in_chs: channels in.
        out_chs: channels out.
        kernel: side of the kernel, or one side for each axis.
        stride: step of the kernel.
        padding: zeros on each side; None keeps the size (odd kernels, stride 1).
        dims: 2 for maps [N,C,H,W], 3 for volumes [N,C,D,H,W].
        transposed: a transposed convolution, which multiplies the size by the stride.
        plain: leave batch norm and activation out.
    """

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        kernel: Size = 3,
        stride: Size = 1,
        padding: Size | None = None,
        *,
        dims: Literal[2, 3] = 2,
        transposed: bool = False,
        plain: bool = False,
    ) -> None:
        if padding is None:
            sides = kernel if isinstance(kernel, tuple) else (kernel,) * dims
            padding = tuple(side // 2 for side in sides)
        conv = _CONVOLUTIONS[dims, transposed](in_chs, out_chs, kernel, stride, padding, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
        if not plain:
            layers["bn"] = nn.BatchNorm2d(out_chs) if dims == 2 else nn.BatchNorm3d(out_chs)
            layers["activation"] = nn.LeakyReLU(0.01, inplace=True)
        super().__init__(layers)


class NearestUpConv(nn.Sequential):
    """Nearest-neighbour upsampling by 2 -> 4x4 convolution, stride 1 -> batch norm -> leaky ReLU.

    A 4x4 kernel has no centre: one zero is padded before and two after each axis.
    """

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__(
            OrderedDict(
                up=nn.Upsample(scale_factor=2, mode="nearest"),
                pad=nn.ZeroPad2d((1, 2, 1, 2)),
                conv=nn.Conv2d(in_chs, out_chs, 4, bias=False),
                bn=nn.BatchNorm2d(out_chs),
                activation=nn.LeakyReLU(0.01, inplace=True),
            )
        )


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad [N,C,H,W] as padding "SAME" does: the odd pixel goes to the bottom and the right."""
    height, width = (
        max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]
    )
    sides = (width // 2, width - width // 2, height // 2, height - height // 2)
    return nnf.pad(x, sides, value=value) if any(sides) else x


class SameConv2d(nn.Conv2d):
    """A square convolution padded as TensorFlow's padding "SAME"."""

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_chs, out_chs, kernel, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N,I,H,W] to [N,O,ceil(H/stride),ceil(W/stride)]."""
        return super().forward(pad_same(x, self.kernel_size[0], self.stride[0]))
