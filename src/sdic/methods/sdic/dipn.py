"""DIPN, the discrepancy information prediction network of SDIC (Zhang 2024).

It compares a photo I with its initial reconstruction R_o and predicts the discrepancy map D, in two
hourglasses: a two-branch spatial-contextual one on the images, and one of 3-D convolutions on the
volume V of both branches, into which attention fuses the context of the photo (eq. 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.irse import Bottleneck
from sdic.encoders.layers import ConvNorm, NearestUpConv
from sdic.errors import InputError

BRANCH_CHANNELS = 48  # C of the paper
LEVEL_CHANNELS = (16, 32, 96, 160)  # of a branch on its way down, at 1/1, 1/2, 1/4, 1/8
CONTEXT_CHANNELS = (160, 192, 64)  # of C_1, C_2, C_3, at 1/8, 1/4, 1/2
VOLUME_CHANNELS = (16, 32, 48)  # of the 3-D hourglass, at 1/2, 1/4, 1/8


@dataclass(frozen=True)
class DIPNLayout:
    """Where the paper and the published code build DIPN differently.

    Where the paper contradicts itself (the sizes it gives for G_1 and G_4), both follow the code.

    Attributes:
        shared_upsampling: both branches share the weights of everything after the downsampling
            (code); else each branch has its own (paper: two parallel branches).
        transposed_upsampling: transposed 4x4 convolutions (code); else nearest-neighbour upsampling
            and 4x4 convolutions (paper).
        reduced_channels: channels of a branch that reach V, after a 1x1 convolution (code: 24);
            0 leaves it out (paper: all 48).
        stem_channels: of the 3-D convolution that lifts V before the hourglass (code: 8); 0 leaves
            it out (paper).
        flat_fusion: the fusion works on each plane of the volume: 1x5x5 kernels, context by two 1x1
            convolutions (code); else 5x5x5 kernels, context by one 3x3 convolution (paper).
        skips: the way up of the 3-D hourglass sees the volumes of the way down, and ends without
            further convolutions (code); not in the paper.
        refined_output: two convolutions and three IR blocks make D from the last volume (code);
            else one 3x3 convolution (paper).
    """

    shared_upsampling: bool
    transposed_upsampling: bool
    reduced_channels: int
    stem_channels: int
    flat_fusion: bool
    skips: bool
    refined_output: bool


DIPN_LAYOUTS = {
    "paper": DIPNLayout(False, False, 0, 0, False, False, False),
    "published": DIPNLayout(True, True, 24, 8, True, True, True),
}


class BranchDown(nn.Module):
    """The convolutional block of a branch: five 3x3 convolutions, three of them with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 16)
        self.conv2 = ConvNorm(16, 24, stride=2)
        self.conv3 = ConvNorm(24, 32)
        self.conv4 = ConvNorm(32, 96, stride=2)
        self.conv5 = ConvNorm(96, 160, stride=2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image [N,3,H,W] to maps [N,16|32|96|160,...] at 1/1, 1/2, 1/4 and 1/8."""
        full = self.conv1(image)
        half = self.conv3(self.conv2(full))
        quarter = self.conv4(half)
        return full, half, quarter, self.conv5(quarter)


class UpMerge(nn.Module):
    """Double a map, concatenate the skip connection, merge by a 3x3 convolution."""

    def __init__(self, in_chs: int, skip_chs: int, transposed: bool) -> None:
        super().__init__()
        self.up = (
            ConvNorm(in_chs, skip_chs, 4, 2, 1, transposed=True)
            if transposed
            else NearestUpConv(in_chs, skip_chs)
        )
        self.merge = ConvNorm(2 * skip_chs, 2 * skip_chs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map [N,C,H,W] and skip [N,K,2H,2W] to [N,2K,2H,2W]."""
        return self.merge(torch.cat((self.up(x), skip), dim=1))  # type: ignore[no-any-return]


class BranchUp(nn.Module):
    """The U-Net style upsampling block of a branch."""

    def __init__(self, layout: DIPNLayout) -> None:
        super().__init__()
        transposed = layout.transposed_upsampling
        full, half, quarter, eighth = LEVEL_CHANNELS
        self.up3 = UpMerge(eighth, quarter, transposed)
        self.up2 = UpMerge(2 * quarter, half, transposed)
        self.up1 = UpMerge(2 * half, full, transposed)
        self.merge = ConvNorm(2 * full, 2 * full)
        self.output = nn.Sequential(ConvNorm(2 * full, BRANCH_CHANNELS))
        if layout.reduced_channels:
            self.output.append(nn.Conv2d(BRANCH_CHANNELS, layout.reduced_channels, 1))

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Maps of `BranchDown` to the branch's part of V and its context (C_1, C_2, C_3)."""
        full, half, quarter, eighth = levels
        c2 = self.up3(eighth, quarter)
        c3 = self.up2(c2, half)
        return self.output(self.merge(self.up1(c3, full))), (eighth, c2, c3)


class SpatialContextualHourglass(nn.Module):
    """The two-branch hourglass: photo and reconstruction to V and the context of the photo."""

    def __init__(self, layout: DIPNLayout) -> None:
        super().__init__()
        self.down_original = BranchDown()
        self.down_initial = BranchDown()
        self.up_original = BranchUp(layout)
        self.up_initial = None if layout.shared_upsampling else BranchUp(layout)

    def forward(
        self, original: Tensor, initial: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """I and R_o [N,3,H,W] to V [N,depth,H,W] and (C_1, C_2, C_3) of I at 1/8, 1/4, 1/2."""
        up_initial = self.up_initial if self.up_initial is not None else self.up_original
        volume, context = self.up_original(self.down_original(original))
        initial_volume, _ = up_initial(self.down_initial(initial))
        return torch.cat((volume, initial_volume), dim=1), context


class ConcatenatedImages(nn.Module):
    """Ablation "w/o SC": both images, lifted to V by one 3x3 convolution, and no context."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(6, depth, 3, padding=1)

    def forward(self, original: Tensor, initial: Tensor) -> tuple[Tensor, tuple[()]]:
        """I and R_o [N,3,H,W] to V [N,depth,H,W] and no context."""
        return self.lift(torch.cat((original, initial), dim=1)), ()


class SpatialAttentionFusion(nn.Module):
    """Discrepancy feature G_i and context C_i to the fused feature (figure 2, eq. 1 and 2).

    Args:
        context_chs: channels of C_i.
        volume_chs: channels of G_i.
        flat: see `DIPNLayout.flat_fusion`.
        attention: False adds the context without weights (ablation).
    """

    def __init__(self, context_chs: int, volume_chs: int, flat: bool, attention: bool) -> None:
        super().__init__()
        chs = volume_chs
        self.attention: nn.Module | None = None
        if flat:
            self.context: nn.Module = nn.Sequential(
                ConvNorm(context_chs, context_chs // 2, 1), nn.Conv2d(context_chs // 2, chs, 1)
            )
            if attention:
                self.attention = nn.Sequential(
                    ConvNorm(chs, chs, (1, 5, 5), dims=3), nn.Conv3d(chs, chs, 1, bias=False)
                )
            self.merge = ConvNorm(chs, chs, (1, 5, 5), dims=3)
        else:
            self.context = nn.Conv2d(context_chs, chs, 3, padding=1)
            if attention:
                self.attention = nn.Conv3d(chs, chs, 5, padding=2)
            self.merge = ConvNorm(chs, chs, 5, dims=3, transposed=True)

    def forward(self, volume: Tensor, context: Tensor) -> Tensor:
        """G_i [N,C,D,H,W] and C_i [N,K,H,W] to [N,C,D,H,W]."""
        context_hat = self.context(context)[:, :, None]
        if self.attention is None:
            return self.merge(context_hat + volume)  # type: ignore[no-any-return]
        weights = torch.sigmoid(self.attention(volume + context_hat))  # eq. 1
        return self.merge(weights * context_hat + volume)  # type: ignore[no-any-return]  # eq. 2


class VolumeStem(ConvNorm):
    """The 3x3x3 convolution that lifts V to some channels.

    A 3-D convolution of a single channel is slow: each plane and its two neighbours make the three
    channels of a 2-D one. Its result has the channels last in memory, where the 3-D convolutions
    that follow take half the time on a CPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, dims=3)

    def forward(self, volume: Tensor) -> Tensor:
        """V [N,1,D,H,W] to [N,C,D,H,W]."""
        layer, norm, activation = self
        conv = cast(nn.Conv3d, layer)
        padded = nnf.pad(volume[:, 0], (0, 0, 0, 0, 1, 1))
        planes = torch.stack((padded[:, :-2], padded[:, 1:-1], padded[:, 2:]), dim=-1)
        planes = planes.flatten(0, 1).permute(0, 3, 1, 2)
        x = nnf.conv2d(planes, conv.weight[:, 0], conv.bias, padding=1)
        x = x.reshape(len(volume), -1, *x.shape[1:]).transpose(1, 2)
        if x.device.type != "cpu":
            x = x.contiguous()
        return activation(norm(x))  # type: ignore[no-any-return]


class DiscrepancyHourglass(nn.Module):
    """The discrepancy map learning hourglass: V and context to the last volume G_4."""

    def __init__(self, layout: DIPNLayout, spatial_context: bool, attention: bool) -> None:
        super().__init__()
        half, quarter, eighth = VOLUME_CHANNELS
        self.skips = layout.skips
        self.stem = VolumeStem(layout.stem_channels) if layout.stem_channels else None
        self.downs = nn.ModuleList()
        in_chs = layout.stem_channels or 1
        for chs in VOLUME_CHANNELS:
            self.downs.append(
                nn.Sequential(ConvNorm(in_chs, chs, stride=2, dims=3), ConvNorm(chs, chs, dims=3))
            )
            in_chs = chs
        self.fusions = nn.ModuleList()
        if spatial_context:
            for context_chs, chs in zip(CONTEXT_CHANNELS, (eighth, quarter, half), strict=True):
                self.fusions.append(
                    SpatialAttentionFusion(context_chs, chs, layout.flat_fusion, attention)
                )
        self.ups = nn.ModuleList(
            ConvNorm(chs, out_chs, 4, 2, 1, dims=3, transposed=True, plain=out_chs == 1)
            for chs, out_chs in ((eighth, quarter), (quarter, half), (half, 1))
        )
        self.merges = nn.ModuleList()
        for chs in (quarter, half):
            merge = nn.Sequential(ConvNorm(chs, chs, dims=3), ConvNorm(chs, chs, dims=3))
            if self.skips:
                merge.insert(0, ConvNorm(2 * chs, chs, 1, dims=3))
            self.merges.append(merge)
        if not self.skips:
            self.merges.append(
                nn.Sequential(ConvNorm(1, 1, dims=3), ConvNorm(1, 1, dims=3, plain=True))
            )

    def forward(self, volume: Tensor, context: tuple[Tensor, ...]) -> Tensor:
        """V [N,D,H,W], D a multiple of 8, and (C_1, C_2, C_3) or () to G_4 [N,D,H,W]."""
        x = volume[:, None]
        if self.stem is not None:
            x = self.stem(x)
        levels = []
        for down in self.downs:
            x = down(x)
            levels.append(x)
        for i, up in enumerate(self.ups):
            if self.fusions:
                x = self.fusions[i](x, context[i])
            x = up(x)
            if i < len(self.merges):
                x = torch.cat((x, levels[1 - i]), dim=1) if self.skips else x
                x = self.merges[i](x)
        return x[:, 0]


class DIPN(nn.Module):
    """Photo I and initial reconstruction R_o to the discrepancy map D.

    Args:
        preset: "paper" or "published", see `DIPNLayout`.
        spatial_context: False leaves out the two-branch hourglass (ablation "w/o SC"), and with it
            the fusion of context: both images go concatenated into the second hourglass.
        attention: False fuses context without attention (ablation).

    Raises:
        InputError: there is no such preset.
    """

    def __init__(
        self, preset: str = "paper", *, spatial_context: bool = True, attention: bool = True
    ) -> None:
        super().__init__()
        if preset not in DIPN_LAYOUTS:
            known = ", ".join(DIPN_LAYOUTS)
            raise InputError(f"DIPN has no preset '{preset}'; choose one of: {known}.")
        layout = DIPN_LAYOUTS[preset]
        depth = 2 * (layout.reduced_channels or BRANCH_CHANNELS)
        self.context: nn.Module = (
            SpatialContextualHourglass(layout) if spatial_context else ConcatenatedImages(depth)
        )
        self.discrepancy = DiscrepancyHourglass(layout, spatial_context, attention)
        self.to_map: nn.Module = (
            nn.Sequential(
                ConvNorm(depth, 16),
                nn.Conv2d(16, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                Bottleneck(16, 3, squeeze_excitation=False),
                Bottleneck(3, 3, squeeze_excitation=False),
                Bottleneck(3, 3, squeeze_excitation=False),
            )
            if layout.refined_output
            else nn.Conv2d(depth, 3, 3, padding=1)
        )

    def forward(self, original: Tensor, initial: Tensor) -> Tensor:
        """I and R_o [N,3,H,W] in [-1,1], H and W multiples of 8, to D [N,3,H,W], unbounded."""
        volume, context = self.context(original, initial)
        return self.to_map(self.discrepancy(volume, context))  # type: ignore[no-any-return]
