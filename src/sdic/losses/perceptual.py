"""Perceptual distance: LPIPS and its shift-tolerant variant, as losses.

LPIPS (Zhang et al. 2018, arXiv 1801.03924) compares unit feature vectors of an ImageNet network at
five depths, weighted by channel. ST-LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686) is the same on
a network whose strides are anti-aliased; its weights ship as `st-lpips-alex` and `st-lpips-vgg`.
The two give different values: a number is only comparable with numbers of the same network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as nnf

from sdic.errors import InputError
from sdic.weights.checkpoints import load_strict, read_checkpoint

NETWORKS = ("st-lpips-alex", "st-lpips-vgg")
BLUR_PADDING = 2
# Mean and scale of the ImageNet pixels, for images in [-1,1].
PIXEL_SHIFT = (-0.030, -0.088, -0.188)
PIXEL_SCALE = (0.458, 0.448, 0.450)
# (channels in, channels out, side of the kernel) of AlexNet's convolutions, one in each slice;
# (channels in, channels out, number of 3x3 convolutions) of VGG16's slices.
ALEX_BLOCKS = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
VGG_BLOCKS = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))


class Blur(nn.Module):
    """Binomial 3x3 blur with stride 2 after a reflected border of 2: [N,C,H,W] -> about H/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(taps, taps)
        self.filt = nn.Buffer(kernel.expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Blur x [N,C,H,W]."""
        x = nnf.pad(x, (BLUR_PADDING,) * 4, mode="reflect")
        return nnf.conv2d(x, self.filt, stride=2, groups=x.shape[1])


class BlurredStem(nn.Sequential):
    """Convolution of stride 1, `Blur`, ReLU, without ever making the map of full size.

    Convolution and blur are one larger convolution of stride 2 everywhere but at the border, where
    the blur sees reflections. Its taps are symmetric, so the first row is the second again; only
    the last row and column of an even map need the two steps one after the other.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N,3,H,W] to [N,64,h,w]."""
        conv, blur, relu = cast(nn.Conv2d, self[0]), cast(Blur, self[1]), self[2]
        out_chs, in_chs, side, _ = conv.weight.shape
        padding = int(conv.padding[0])
        if x.shape[2] % 2 or x.shape[3] % 2 or min(x.shape[2:]) < side + 1:
            return relu(blur(conv(x)))  # type: ignore[no-any-return]
        kernel = conv.weight.reshape(out_chs * in_chs, 1, side, side).float()
        kernel = nnf.conv2d(kernel, blur.filt[:1].float(), padding=2)
        kernel = kernel.reshape(out_chs, in_chs, side + 2, side + 2).to(conv.weight.dtype)
        core = nnf.conv2d(x, kernel, conv.bias, stride=2, padding=padding)
        core = nnf.pad(core, (1, 0, 1, 0), mode="replicate")
        # The last row needs the last two rows of the convolution, and these the last rows of x.
        strip = side + 1 - padding
        bottom = blur(conv(x[:, :, -strip:]))[:, :, -1:, :-1]
        right = blur(conv(x[:, :, :, -strip:]))[:, :, :, -1:]
        return relu(torch.cat((torch.cat((core, bottom), dim=2), right), dim=3))  # type: ignore[no-any-return]


class _Scaling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Buffer(torch.tensor(PIXEL_SHIFT)[None, :, None, None])
        self.scale = nn.Buffer(torch.tensor(PIXEL_SCALE)[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class _Linear(nn.Module):
    """Channel weights of one depth; index 0 is the dropout of the published training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
        # Never negative, as in the published files: their roots are taken.
        nn.init.constant_(self.weights(), 1 / channels)

    def weights(self) -> Tensor:
        return cast(nn.Conv2d, self.model[1]).weight


class _Network(nn.Module):
    """Five slices; the layers are numbered through, as in the published state dicts."""

    def __init__(self, slices: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        index = 0
        for i, layers in enumerate(slices):
            stem = len(layers) == 3 and isinstance(layers[1], Blur)
            part = BlurredStem() if stem else nn.Sequential()
            for layer in layers:
                part.add_module(str(index), layer)
                index += 1
            self.add_module(f"slice{i + 1}", part)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for part in self.children():
            x = part(x)
            maps.append(x)
        return maps


def _alex_slices(shift_tolerant: bool) -> list[list[nn.Module]]:
    slices: list[list[nn.Module]] = []
    for i, (in_chs, out_chs, side) in enumerate(ALEX_BLOCKS):
        if i == 0:
            stride = 1 if shift_tolerant else 4
            stem: list[nn.Module] = [nn.Conv2d(in_chs, out_chs, side, stride, padding=2)]
            slices.append([*stem, *([Blur(out_chs)] if shift_tolerant else []), nn.ReLU()])
            continue
        pool = _pool(in_chs, 3, shift_tolerant) if i in (1, 2) else []
        conv = nn.Conv2d(in_chs, out_chs, side, padding=side // 2)
        slices.append([*pool, conv, nn.ReLU()])
    return slices


def _vgg_slices(shift_tolerant: bool) -> list[list[nn.Module]]:
    slices: list[list[nn.Module]] = []
    for i, (in_chs, out_chs, depth) in enumerate(VGG_BLOCKS):
        layers = _pool(in_chs, 2, shift_tolerant) if i else []
        for j in range(depth):
            layers += [nn.Conv2d(out_chs if j else in_chs, out_chs, 3, padding=1), nn.ReLU()]
        slices.append(layers)
    return slices


def _pool(channels: int, side: int, shift_tolerant: bool) -> list[nn.Module]:
    if shift_tolerant:
        return [nn.MaxPool2d(side, stride=1), Blur(channels)]
    return [nn.MaxPool2d(side, stride=2)]


class _ScaledUnit(torch.autograd.Function):
    """x [N,C,H,W] -> x / |x| * scale [1,C,1,1], with few passes over memory in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        # The constant keeps the gradient finite where all channels are zero.
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        inverse = norm.square_().add_(1e-10).rsqrt_()
        ctx.save_for_backward(x, scale, inverse)
        result: Tensor = (x * inverse).mul_(scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, scale, inverse = ctx.saved_tensors
        grad = grad * scale
        along = (grad * x).sum(dim=1, keepdim=True).mul_(inverse.square())
        return grad.addcmul_(x, along, value=-1).mul_(inverse), None


def _scaled_unit(x: Tensor, scale: Tensor) -> Tensor:
    return _ScaledUnit.apply(x, scale)  # type: ignore[no-any-return, no-untyped-call]


class PerceptualLoss(nn.Module):
    """LPIPS on AlexNet or VGG16, plain or shift-tolerant; frozen.

    The keys of the state dict are those of the published files. Works in fp32 and under autocast;
    the distance itself is always taken in fp32.

    Args:
        net: "alex" or "vgg".
        shift_tolerant: the anti-aliased network of ST-LPIPS.
    """

    def __init__(self, net: str = "alex", shift_tolerant: bool = True) -> None:
        super().__init__()
        if net not in ("alex", "vgg"):
            raise InputError(f"There is no perceptual network '{net}'; known are: alex, vgg.")
        self.name = f"{'st-' if shift_tolerant else ''}lpips-{net}"
        slices = (_alex_slices if net == "alex" else _vgg_slices)(shift_tolerant)
        blocks = ALEX_BLOCKS if net == "alex" else VGG_BLOCKS
        self.scaling_layer = _Scaling()
        self.net = _Network(slices)
        for i, (_, channels, _) in enumerate(blocks):
            self.add_module(f"lin{i}", _Linear(channels))
        self.eval()
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of unit vectors at five depths, times the root of their channel weights.

        Args:
            images: [N,3,H,W] in [-1,1]; at least 32 pixels a side.

        Returns:
            Five maps [N,C,h,w] in fp32; `distance` is their mean squared difference. Those of a
            target can be kept.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        maps = self.net(self.scaling_layer(images))
        features = []
        for i, part in enumerate(maps):
            weights = cast(_Linear, self.get_submodule(f"lin{i}")).weights()
            features.append(_scaled_unit(part.float(), weights.float().sqrt()))
        return features

    def distance(self, features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Distance [N] of two lists of maps as `features` gives them."""
        total = []
        for a, b in zip(features, others, strict=True):
            # Channels last in memory: a view, and one pass for all squares.
            difference = (a - b).permute(0, 2, 3, 1).flatten(1)
            total.append(torch.linalg.vector_norm(difference, dim=1).square() / a[0, 0].numel())
        return torch.stack(total).sum(dim=0)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Distance [N] of images [N,3,H,W] in [-1,1]; differentiable in both."""
        return self.distance(self.features(images), self.features(others))


def create(name: str = "st-lpips-alex") -> PerceptualLoss:
    """A shift-tolerant perceptual loss by its key, on the CPU; its weights are fetched if needed.

    Raises:
        InputError: no network has this key.
        WeightsError: the weights cannot be fetched or read.
    """
    from sdic import weights

    if name not in NETWORKS:
        raise InputError(
            f"There is no perceptual network '{name}'; known are: {', '.join(NETWORKS)}. "
            "Plain LPIPS is loaded from your own files with `perceptual.load_lpips`."
        )
    loss = PerceptualLoss(name.removeprefix("st-lpips-"))
    load_strict(loss, weights.load(name), name)
    return loss.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_lpips(backbone: Path, linear: Path, net: str | None = None) -> PerceptualLoss:
    """Plain LPIPS from the user's files.

    Args:
        backbone: torchvision's state dict of AlexNet or VGG16 (`features.0.weight`, ...).
        linear: the linear layers of LPIPS v0.1 (`lin0.model.1.weight`, ...).
        net: "alex" or "vgg"; None is what the backbone is.

    Raises:
        InputError: there is no such network or file.
        WeightsError: a file cannot be read, or has other layers.
    """
    trunk, heads = read_checkpoint(backbone), read_checkpoint(linear)
    net = net or ("vgg" if "features.28.weight" in trunk else "alex")
    loss = PerceptualLoss(net, shift_tolerant=False)
    state = {}
    for key, value in loss.state_dict().items():
        if key.startswith("net."):
            # net.slice2.3.weight is features.3.weight of torchvision.
            source, name = trunk, "features." + key.split(".", 2)[2]
        else:
            source, name = heads, key
        if name in source:
            state[key] = source[name]
        elif key.startswith("scaling_layer."):
            state[key] = value
    load_strict(loss, state, f"{backbone} with {linear}")
    return loss
