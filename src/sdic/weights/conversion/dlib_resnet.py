"""Reader of `dlib_face_recognition_resnet_model_v1.dat`, dlib's face recognition network.

The file is dlib's serialization of one `dnn` network: a nest of layer versions from the loss inward
to the input, then each layer's own data outward from the input, which is the order of execution.
Tag and skip layers leave a version only. Integers are a byte (low four bits: number of bytes, high
bit: sign) and little-endian bytes; a float is an integer mantissa and an integer exponent of two; a
tensor is a version, four sides and raw little-endian float32.

Names of the tensors, i counting in the order of execution:

    conv.<i>.weight   [out,in,H,W]     29 of them; conv.0 is the 7x7 at stride 2
    conv.<i>.bias     [out]
    affine.<i>.gamma  [out]            29 of them; affine.<i> follows conv.<i>: x * gamma + beta
    affine.<i>.beta   [out]
    fc.weight         [128,256]        no bias; y = fc.weight @ x, as in torch.nn.Linear
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdic.errors import WeightsError

TENSOR_VERSION = 2
ALIAS_VERSION = 1
INPUT_LAYER_VERSION = 3  # of the innermost layer, the one that holds the input
NESTED_VERSIONS = (1, 2)  # tag and skip layers; layers that compute
SIDES = 4  # of a dlib tensor: samples, channels, rows, columns


def convert_dlib_resnet(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of the one .dat file, named as the module says.

    Raises:
        WeightsError: the file is not this network, or is not read to its very last byte.
    """
    (file,) = files
    try:
        return _Network(file.read_bytes()).read()
    except (IndexError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{file.name} is not dlib's face recognition network as it was expected ({error})."
        ) from error


class _Stream:
    """dlib's basic types, read one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def at_end(self) -> bool:
        return self._place == len(self._content)

    def take(self, size: int) -> bytes:
        chunk = self._content[self._place : self._place + size]
        if len(chunk) != size:
            raise ValueError("it ends too early")
        self._place += size
        return chunk

    def integer(self) -> int:
        control = self.take(1)[0]
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> list[int]:
        return [self.integer() for _ in range(count)]

    def skip_floats(self, count: int) -> None:
        self.integers(2 * count)  # mantissa and exponent

    def string(self) -> str:
        return self.take(self.integer()).decode("ascii")

    def expect(self, value: int, what: str) -> None:
        if (found := self.integer()) != value:
            raise ValueError(f"{what} is {found} where {value} was expected")

    def tensor(self) -> Tensor:
        self.expect(TENSOR_VERSION, "the version of a tensor")
        shape = self.integers(SIDES)
        size = math.prod(shape)
        values = np.frombuffer(self.take(4 * size), "<f4").astype(np.float32)
        return torch.from_numpy(values)

    def alias(self) -> list[int]:
        """The shape of a part of a layer's parameters."""
        self.expect(ALIAS_VERSION, "the version of an alias tensor")
        return self.integers(SIDES)


class _Network:
    """The whole file, from the loss layer to the last fully connected one."""

    def __init__(self, content: bytes) -> None:
        self._stream = _Stream(content)
        self._tensors: dict[str, Tensor] = {}
        self._counts = {"conv": 0, "affine": 0}

    def read(self) -> dict[str, Tensor]:
        layers = self._read_nest()
        self._read_layer()
        self._stream.integer()  # samples that one input expands to
        for _ in range(layers - 1):
            self._read_layer()
        if not self._stream.at_end():
            raise ValueError("it goes on after its last layer")
        return self._tensors

    def _read_nest(self) -> int:
        """Loss, versions of all layers, input; returns the number of layers that compute."""
        stream = self._stream
        stream.expect(1, "the version of the loss layer")
        if (loss := stream.string()) != "loss_metric_2":
            raise ValueError(f"its loss is '{loss}'")
        stream.skip_floats(2)  # margin and threshold
        layers = 1
        while (version := stream.integer()) != INPUT_LAYER_VERSION:
            if version not in NESTED_VERSIONS:
                raise ValueError(f"a layer has the unknown version {version}")
            layers += version == NESTED_VERSIONS[1]
        if (name := stream.string()) != "input_rgb_image_sized":
            raise ValueError(f"its input is '{name}'")
        stream.skip_floats(3)  # mean colour
        stream.integers(2)  # rows and columns
        return layers

    def _read_layer(self) -> None:
        """One layer: its kind and data, then three flags and three tensors left of training."""
        stream = self._stream
        kind = stream.string()
        if kind == "con_4":
            self._read_convolution()
        elif kind == "affine_":
            self._read_affine()
        elif kind == "fc_2":
            self._read_fully_connected()
        elif kind in ("max_pool_2", "avg_pool_2"):
            stream.integers(6)  # window, stride and padding
        elif kind not in ("relu_", "add_prev_"):
            raise ValueError(f"there is a layer of the unknown kind '{kind}'")
        if set(stream.take(3)) - set(b"01"):
            raise ValueError("the flags of a layer are not flags")
        for _ in range(3):
            stream.tensor()

    def _read_convolution(self) -> None:
        stream = self._stream
        parameters = stream.tensor()
        stream.integers(7)  # filters, window, stride, padding
        weight, bias = stream.alias(), stream.alias()
        stream.skip_floats(4)  # rates of learning and decay
        self._store("conv", parameters, {"weight": weight, "bias": [math.prod(bias)]})

    def _read_affine(self) -> None:
        stream = self._stream
        parameters = stream.tensor()
        gamma, beta = math.prod(stream.alias()), math.prod(stream.alias())
        stream.integer()  # whether it follows a convolution
        self._store("affine", parameters, {"gamma": [gamma], "beta": [beta]})

    def _read_fully_connected(self) -> None:
        stream = self._stream
        outputs, inputs = stream.integers(2)
        parameters = stream.tensor()
        stream.alias()
        stream.alias()
        stream.integer()  # whether there is a bias; there is none
        stream.skip_floats(4)  # rates of learning and decay
        self._tensors["fc.weight"] = parameters.reshape(inputs, outputs).T.contiguous()

    def _store(self, kind: str, parameters: Tensor, shapes: dict[str, list[int]]) -> None:
        """Split a layer's parameters, which lie one after another, into named tensors."""
        index = self._counts[kind]
        self._counts[kind] += 1
        sizes = [math.prod(shape) for shape in shapes.values()]
        if sum(sizes) != len(parameters):
            raise ValueError(f"{kind} {index} has {len(parameters)} values, not {sum(sizes)}")
        for (name, shape), part in zip(shapes.items(), torch.split(parameters, sizes), strict=True):
            self._tensors[f"{kind}.{index}.{name}"] = part.reshape(shape).clone()
