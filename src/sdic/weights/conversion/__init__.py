"""Converters: from the files of an archive to named tensors, one file for each format.

Each takes the member files in the order of the registry and returns tensors on the CPU: floating
point ones as float32, integers as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdic.errors import WeightsError
from sdic.weights.conversion.dlib_resnet import convert_dlib_resnet
from sdic.weights.conversion.mobile_stylegan import convert_mobile_stylegan
from sdic.weights.conversion.onnx_initializers import convert_onnx
from sdic.weights.conversion.tensorflow_js import convert_tensorflow_js
from sdic.weights.conversion.torch_pickles import convert_torch_pickles

__all__ = ["CONVERTERS", "KEEP", "convert"]

KEEP = "keep"  # no converter: the one member is kept as it is

CONVERTERS: dict[str, Callable[[Sequence[Path]], dict[str, Tensor]]] = {
    "mobile-stylegan": convert_mobile_stylegan,
    "torch-pickles": convert_torch_pickles,
    "dlib-resnet": convert_dlib_resnet,
    "onnx": convert_onnx,
    "tensorflow-js": convert_tensorflow_js,
}


def convert(converter: str, files: Sequence[Path]) -> dict[str, Tensor]:
    """Run a converter by its name.

    Raises:
        WeightsError: no such converter, a file that is not as expected, or values that are not
            finite.
    """
    if converter not in CONVERTERS:
        raise WeightsError(
            f"The registry names a converter '{converter}'; known are: {', '.join(CONVERTERS)}."
        )
    tensors = {}
    for key, tensor in CONVERTERS[converter](files).items():
        tensors[key] = tensor.float() if tensor.is_floating_point() else tensor
        if not torch.isfinite(tensors[key]).all():
            raise WeightsError(
                f"The tensor '{key}' of {files[0].name} has values that are not finite; the "
                "registry entry does not fit this file, please report it."
            )
    return tensors
