"""Initializers of an ONNX file, read from its protocol buffer without the `onnx` library.

Only the path from the model to its initializers is followed; field numbers are those of the public
`onnx.proto` (IR version 3 and later).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdic.errors import WeightsError

MODEL_GRAPH = 7
GRAPH_INITIALIZER = 5
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_RAW_DATA = 1, 2, 8, 9
DATA_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}  # TensorProto.DataType

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def convert_onnx(files: Sequence[Path]) -> dict[str, Tensor]:
    """All initializers of the one ONNX file, under their own names, in their order.

    Raises:
        WeightsError: the file is damaged, or keeps its tensors in another way than as raw bytes.
    """
    (file,) = files
    tensors: dict[str, Tensor] = {}
    try:
        for graph in _bytes_fields(memoryview(file.read_bytes()), MODEL_GRAPH):
            for initializer in _bytes_fields(graph, GRAPH_INITIALIZER):
                name, tensor = _tensor(initializer)
                tensors[name] = tensor
    except (IndexError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{file.name} is not an ONNX file whose initializers can be read ({error}); it is "
            "damaged or of another kind."
        ) from error
    if not tensors:
        raise WeightsError(f"{file.name} was expected to hold ONNX initializers and holds none.")
    return tensors


def _tensor(message: memoryview) -> tuple[str, Tensor]:
    shape: list[int] = []
    kind, name, raw = "", "", None
    for number, value in _fields(message):
        if number == TENSOR_DIMS:
            shape += [value] if isinstance(value, int) else _packed_varints(value)
        elif number == TENSOR_DATA_TYPE and isinstance(value, int):
            kind = DATA_TYPES[value]
        elif number == TENSOR_NAME and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif number == TENSOR_RAW_DATA and isinstance(value, memoryview):
            raw = value
    if raw is None or not kind:
        raise ValueError(f"the tensor '{name}' has no raw data")
    array = np.frombuffer(raw, kind)
    if array.size != math.prod(shape):
        raise ValueError(f"the tensor '{name}' has {array.size} values for the shape {shape}")
    return name, torch.from_numpy(array.copy()).reshape(shape)


def _bytes_fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of all fields of a message, in order."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire_type = key & 7
        if wire_type == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if wire_type == BYTES:
            size, place = _varint(message, place)
        elif wire_type in (FIXED32, FIXED64):
            size = 4 if wire_type == FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if place + size > len(message):
            raise ValueError("it ends too early")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The variable-length integer at a place, and the place after it."""
    value, shift = 0, 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _packed_varints(message: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(message):
        value, place = _varint(message, place)
        values.append(value)
    return values
