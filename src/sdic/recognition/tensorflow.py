"""Layers of TensorFlow's networks, and the reading of TensorFlow.js weights into them.

Weights arrive under their published names and in TensorFlow's layout: filters [H,W,I,O],
depthwise filters [H,W,C,1], matrices [I,O].
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.layers import SameConv2d, pad_same
from sdic.errors import WeightsError
from sdic.recognition.base import copy_tensor

Layer = nn.Conv2d | nn.Linear


def max_pool_same(x: Tensor) -> Tensor:
    """Maximum over 3x3 at every second pixel, padding "SAME"."""
    return nnf.max_pool2d(pad_same(x, 3, 2, -float("inf")), 3, 2)


class SeparableConv2d(nn.Module):
    """A depthwise 3x3 without bias, then a 1x1 with bias."""

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = SameConv2d(in_chs, in_chs, 3, stride, groups=in_chs)
        self.depthwise.bias = None
        self.pointwise = nn.Conv2d(in_chs, out_chs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N,I,H,W] to [N,O,ceil(H/stride),ceil(W/stride)]."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class TensorReader:
    """Hands out tensors by name, in PyTorch's layout, and tells which were never asked for."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.name = name
        self.tensors = tensors
        self.unread = {key for key, value in tensors.items() if self._is_weight(value)}

    @staticmethod
    def _is_weight(value: Tensor) -> bool:
        # Scalars and integers are constants of the graph: bounds of a clip, axes of a mean.
        return value.ndim > 0 and value.is_floating_point()

    def read(self, key: str) -> Tensor:
        """The tensor of this name, as published.

        Raises:
            WeightsError: there is none.
        """
        if key not in self.tensors:
            raise WeightsError(
                f"The weights of {self.name} lack the tensor '{key}': delete them from the cache"
                " and fetch them again."
            )
        self.unread.discard(key)
        return self.tensors[key]

    def fill(self, layer: Layer, weight: str, bias: str | None = None) -> None:
        """Copy a filter or matrix, and a bias, into a layer.

        Raises:
            WeightsError: a tensor is missing or of another shape.
        """
        value = self.read(weight)
        if isinstance(layer, nn.Linear):
            value = value.T
        elif layer.groups > 1:
            value = value.permute(2, 3, 0, 1)
        else:
            value = value.permute(3, 2, 0, 1)
        copy_tensor(self.name, layer.weight, value)
        if bias is not None and layer.bias is not None:
            copy_tensor(self.name, layer.bias, self.read(bias))

    def fill_separable(
        self, layer: SeparableConv2d, depthwise: str, pointwise: str, bias: str
    ) -> None:
        """Copy the three tensors of a separable convolution.

        Raises:
            WeightsError: a tensor is missing or of another shape.
        """
        self.fill(layer.depthwise, depthwise)
        self.fill(layer.pointwise, pointwise, bias)

    def finish(self) -> None:
        """Check that every weight of the file has found its place.

        Raises:
            WeightsError: some were left over.
        """
        if self.unread:
            raise WeightsError(
                f"The weights of {self.name} hold tensors that the network has no place for"
                f" ({', '.join(sorted(self.unread)[:3])}): delete them from the cache and fetch"
                " them again."
            )
