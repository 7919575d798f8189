"""fr-feature: a MobileFaceNet (arXiv 1804.07573) that embeds a face in 512 dimensions.

The network of the npm package `faceplugin-face-recognition-js` (MIT), 1.19 M parameters. It is the
identity teacher: cheap, differentiable, and not the network that judges in the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.recognition.base import Recogniser, of_kind, pair_tensors
from sdic.recognition.preprocessing import Crop, to_bytes

CROP = Crop(rows=(31, 225), columns=(31, 225), size=112)
# (width inside, width out, number of blocks); the first block of a stage halves the side.
STAGES = ((128, 64, 1), (128, 64, 4), (256, 128, 1), (256, 128, 6), (512, 128, 1), (256, 128, 2))


def _convolution(
    in_chs: int, out_chs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution with its batch norm folded in, then PReLU."""
    return nn.Sequential(
        nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups),
        nn.PReLU(out_chs),
    )


class _Bottleneck(nn.Module):
    """1x1 up, 3x3 depthwise, linear 1x1 down; a residual where the side stays."""

    def __init__(self, in_chs: int, hidden: int, out_chs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1
        self.layers = nn.Sequential(
            _convolution(in_chs, hidden, 1),
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_chs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileFaceNet(Recogniser):
    """Identity embedding: images [N,3,256,256] in [-1,1], FFHQ-aligned, to unit vectors [N,512].

    Compare two faces by the dot product. On 300 people, two photos each: the same person .76,
    different people .02 on average; equal error rate .003.
    """

    name = "fr-feature"
    weights = "fr-feature"
    dimensions = 512
    same_person, different_people = 0.76, 0.02

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 64, 3, 2), _convolution(64, 64, 3, groups=64)]
        channels = 64
        for hidden, out_chs, blocks in STAGES:
            stride = 2 if blocks == 1 else 1
            for _ in range(blocks):
                layers.append(_Bottleneck(channels, hidden, out_chs, stride))
                channels = out_chs
        self.trunk = nn.Sequential(*layers, _convolution(128, 512, 1))
        self.head = nn.Sequential(nn.Conv2d(512, 512, 7, groups=512), nn.Conv2d(512, 512, 1))

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to the network's input [N,3,112,112], BGR."""
        return (to_bytes(CROP(images)).flip(1) - 127.5) / 128

    def describe(self, inputs: Tensor) -> Tensor:
        """The network itself: inputs [N,3,112,112] to embeddings [N,512], not normalised."""
        embeddings: Tensor = self.head(self.trunk(inputs)).flatten(1)
        return embeddings

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to unit embeddings [N,512]."""
        return nnf.normalize(self.describe(self.preprocess(images)))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the ONNX initializers, whose numbers as names follow the order of the layers."""
        ordered = [tensors[key] for key in sorted(tensors, key=int)]
        convolutions = of_kind(self.modules(), nn.Conv2d)
        kinds: dict[int, list[Tensor]] = {
            4: [layer.weight for layer in convolutions],
            1: [layer.bias for layer in convolutions if layer.bias is not None],
            3: [layer.weight for layer in of_kind(self.modules(), nn.PReLU)],
        }
        for dimensions, parameters in kinds.items():
            values = [t for t in ordered if t.ndim == dimensions and t.is_floating_point()]
            pair_tensors(
                self.name, parameters, [v.flatten() if dimensions == 3 else v for v in values]
            )
