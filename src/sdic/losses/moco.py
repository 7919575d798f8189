"""ResNet-50 trained by MoCo v2 (Chen et al. 2020, arXiv 2003.04297): similarity of any domain.

The e4e family uses its pooled features in place of a face recogniser: `IdentityLoss(MoCo())`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.losses.identity import counted
from sdic.weights.checkpoints import load_strict, part_of, read_checkpoint

INPUT_SIZE = 224
# (channels inside the bottleneck, number of blocks) of the four stages.
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
EXPANSION = 4
# In the published checkpoint the query encoder lies under this prefix; its projection head does
# not take part.
PREFIX = "module.encoder_q"
HEAD = "fc"


class ResidualBlock(nn.Module):
    """1x1 -> 3x3 (stride) -> 1x1, each with batch normalisation, plus a shortcut."""

    def __init__(self, in_chs: int, width: int, stride: int) -> None:
        super().__init__()
        out_chs = width * EXPANSION
        self.conv1 = nn.Conv2d(in_chs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_chs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_chs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_chs, out_chs, 1, stride, bias=False), nn.BatchNorm2d(out_chs)
            )
            if stride != 1 or in_chs != out_chs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N,C,H,W] to [N,O,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = nnf.relu(self.bn1(self.conv1(x)))
        x = nnf.relu(self.bn2(self.conv2(x)))
        return nnf.relu(self.bn3(self.conv3(x)) + shortcut)


class MoCo(nn.Module):
    """ResNet-50 up to its pooled features, as the e4e family feeds it.

    Images stay in [-1,1] and are resized to 224 by nearest neighbour, as in the published losses.
    Parameter names are torchvision's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        in_chs = 64
        for i, (width, num_blocks) in enumerate(STAGES):
            layer = nn.Sequential()
            for j in range(num_blocks):
                layer.append(ResidualBlock(in_chs, width, stride=2 if i and not j else 1))
                in_chs = width * EXPANSION
            self.add_module(f"layer{i + 1}", layer)
        self.eval()
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] in [-1,1] to unit features [N,2048]."""
        x = nnf.interpolate(images, size=(INPUT_SIZE, INPUT_SIZE))
        x = nnf.max_pool2d(nnf.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for i in range(len(STAGES)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return nnf.normalize(x.mean(dim=(2, 3)).float())


def load_moco(path: Path) -> MoCo:
    """MoCo v2's ResNet-50 from the published checkpoint, frozen, on the CPU.

    Raises:
        InputError: there is no such file.
        WeightsError: the file cannot be read, or holds another network.
    """
    checkpoint = read_checkpoint(path)
    query = part_of(checkpoint.get("state_dict", {}), PREFIX, str(path))
    network = MoCo()
    load_strict(network, counted(query, network), str(path), dead=(HEAD,))
    return network
