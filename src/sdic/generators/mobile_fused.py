"""The mobile generator with each block's linear maps merged into dense convolutions.

An inverse Haar transform, a depthwise 3x3 and a 1x1 are linear and follow each other, so they are
one transposed 4x4 convolution of stride 2; a depthwise 3x3 and a 1x1 are one dense 3x3. That is
nine times the multiplications and a third of the memory traffic: faster wherever matrix units
make multiplications cheap (bf16 on recent CPUs, any GPU), slower elsewhere. The result is the same
up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.mobile import SLOPE, Block, MobileStyleGAN, ModulatedConv, inverse_haar


def fuse(generator: MobileStyleGAN) -> MobileStyleGAN:
    """Merge the linear maps of every block in place, for a frozen generator; returns it.

    The state dict's keys change: load weights first.
    """
    for i, block in enumerate(generator.blocks):
        if isinstance(block, Block):
            generator.blocks[i] = FusedBlock(block)
    return generator


def to_bfloat16(generator: MobileStyleGAN) -> MobileStyleGAN:
    """Run the synthesis in bfloat16, channels last; the mapping network stays as it is.

    Latents and features of any type go in; features and images come out as bfloat16. On generated
    faces the images differ from float32's by 0.002 on average.
    """
    for name, child in generator.named_children():
        if name != "mapping_network":
            child.to(torch.bfloat16)
            for tensor in (*child.parameters(), *child.buffers()):
                if tensor.ndim == 4:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    generator.constant.data = generator.constant.data.to(torch.bfloat16)
    return generator


class FusedBlock(nn.Module):
    """A `mobile.Block` as two dense convolutions."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.up = block.up
        self.modulation1 = block.conv1.modulation
        self.modulation2 = block.conv2.modulation
        self.kernel1 = nn.Buffer(_merge_haar(_dense_kernel(block.conv1)))
        self.kernel2 = nn.Buffer(_dense_kernel(block.conv2))
        self.noise1, self.bias1 = block.conv1.noise, block.conv1.bias
        self.noise2, self.bias2 = block.conv2.noise, block.conv2.bias

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        # A scale of a channel passes through the Haar transform to all of its bands.
        scale = self.modulation1(w1)
        scale = self.up(w1) * torch.cat((scale, scale.repeat_interleave(3, dim=1)), dim=1)
        x = nnf.conv_transpose2d(x * scale, self.kernel1, stride=2, padding=1)
        x = nnf.leaky_relu(x + self.noise1 + self.bias1, SLOPE) * self.modulation2(w2)
        x = nnf.conv2d(x, self.kernel2, padding=1)
        return nnf.leaky_relu(x + self.noise2 + self.bias2, SLOPE)

    def styles(self, w1: Tensor, w2: Tensor) -> list[Tensor]:
        """See `Block.styles`."""
        return [self.up(w1), self.modulation1(w1), self.modulation2(w2)]


@torch.no_grad()
def _dense_kernel(conv: ModulatedConv) -> Tensor:
    """Depthwise [I,1,3,3] then 1x1 [O,I,1,1], as one kernel [O,I,3,3]."""
    if conv.depthwise is None:
        return conv.conv.weight.clone()
    return conv.conv.weight * conv.depthwise.weight[:, 0]


def _merge_haar(kernel: Tensor) -> Tensor:
    """Inverse Haar transform then a kernel [O,C,3,3], as a transposed kernel [4C,O,4,4].

    Tap (a, b) of band k of a cell is a pixel of the doubled map; a 3x3 kernel spreads that pixel
    over its neighbours, flipped, because a convolution in deep learning is a correlation.
    """
    out_chs, in_chs = kernel.shape[:2]
    bands = inverse_haar(torch.eye(4)[:, :, None, None])[:, 0]  # [4,2,2]
    flipped = kernel.flip(2, 3).transpose(0, 1)  # [C,O,3,3]
    merged = torch.zeros(4, in_chs, out_chs, 4, 4)
    for a in range(2):
        for b in range(2):
            merged[:, :, :, a : a + 3, b : b + 3] += (
                bands[:, a, b, None, None, None, None] * flipped
            )
    detail = merged[1:].transpose(0, 1).flatten(0, 1)
    return torch.cat((merged[0], detail)).contiguous()
