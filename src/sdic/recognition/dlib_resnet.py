"""dlib's face recognition ResNet: 29 convolutions, 128 numbers for a face.

The file `dlib_face_recognition_resnet_model_v1.dat` (CC0). It judges identity in the evaluation,
where fr-feature is the teacher: of the recognisers at hand, the two agree least.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.recognition.base import Recogniser, copy_tensor, of_kind
from sdic.recognition.preprocessing import DLIB_MEAN, Crop, subtract, to_bytes
from sdic.recognition.tensorflow import TensorReader

CROP = Crop(rows=(69, 243), columns=(41, 215), size=150)
# (width, halves the side) of the residual blocks.
BLOCKS = (
    *[(32, False)] * 3,
    *[(64, True), (64, False), (64, False), (64, False)],
    *[(128, True), (128, False), (128, False)],
    *[(256, True), (256, False), (256, False), (256, True)],
)


def _convolution(in_chs: int, out_chs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution, without padding where it strides."""
    padding = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(in_chs, out_chs, kernel, stride, padding)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 2x2 mean where the side halves.

    The two branches may differ in side and in width; the smaller is padded with zeros.
    """

    def __init__(self, in_chs: int, out_chs: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = _convolution(in_chs, out_chs, 3, 2 if down else 1)
        self.second = _convolution(out_chs, out_chs, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(nnf.relu(self.first(x)))
        shortcut = nnf.avg_pool2d(x, 2) if self.down else x
        shape = [max(a, b) for a, b in zip(y.shape, shortcut.shape, strict=True)]
        return nnf.relu(_pad_to(y, shape) + _pad_to(shortcut, shape))


def _pad_to(x: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (new - old for new, old in zip(shape[1:], x.shape[1:], strict=True))
    return nnf.pad(x, (0, width, 0, height, 0, channels))


class DlibResNet(Recogniser):
    """Identity embedding: images [N,3,256,256] in [-1,1], FFHQ-aligned, to unit vectors [N,128].

    dlib's own measure, and that of `compare`, is the distance between descriptors that are not
    normalised. On 300 people, two photos each, it is .38 for the same person and .83 for different
    people on average; equal error rate .003.
    """

    name = "dlib"
    weights = "dlib-resnet"
    dimensions = 128
    measure = "distance"
    same_person, different_people = 0.38, 0.83

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, 7, 2)
        self.blocks = nn.ModuleList()
        channels = 32
        for out_chs, down in BLOCKS:
            self.blocks.append(_Residual(channels, out_chs, down=down))
            channels = out_chs
        self.head = nn.Linear(channels, self.dimensions, bias=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to the network's input [N,3,150,150], RGB less means."""
        return subtract(to_bytes(CROP(images)), DLIB_MEAN) / 256

    def describe(self, inputs: Tensor) -> Tensor:
        """The network itself: inputs [N,3,150,150] to descriptors [N,128], not normalised."""
        x = nnf.max_pool2d(nnf.relu(self.stem(inputs)), 3, 2)
        for block in self.blocks:
            x = block(x)
        descriptors: Tensor = self.head(x.mean((2, 3)))
        return descriptors

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1] to unit embeddings [N,128]."""
        return nnf.normalize(self.describe(self.preprocess(images)))

    def compare(self, images: Tensor, others: Tensor) -> Tensor:
        """Euclidean distance [N] between the descriptors of images and others, pair by pair."""
        first, second = (self.describe(self.preprocess(faces)) for faces in (images, others))
        distances: Tensor = torch.linalg.vector_norm(first - second, dim=1)
        return distances

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load dlib's tensors; the scales and offsets after the convolutions are folded in."""
        reader = TensorReader(self.name, tensors)
        for number, layer in enumerate(of_kind(self.modules(), nn.Conv2d)):
            gamma = reader.read(f"affine.{number}.gamma").flatten()
            beta = reader.read(f"affine.{number}.beta").flatten()
            weight = reader.read(f"conv.{number}.weight") * gamma[:, None, None, None]
            bias = reader.read(f"conv.{number}.bias").flatten() * gamma + beta
            copy_tensor(self.name, layer.weight, weight)
            copy_tensor(self.name, layer.bias, bias)
        copy_tensor(self.name, self.head.weight, reader.read("fc.weight"))
        reader.finish()
