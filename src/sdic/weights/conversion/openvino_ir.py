"""Constants of an OpenVINO IR: an .xml that lists layers, a .bin that holds their values."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from sdic.errors import WeightsError

IR_VERSION = "10"


def read_constants(xml: Path, binary: Path) -> list[tuple[str, Tensor]]:
    """All float32 constants of an IR of version 10, as (layer name, tensor) in file order.

    Raises:
        WeightsError: another version, an unreadable list, or values beyond the end of the .bin.
    """
    try:
        root = ElementTree.parse(xml).getroot()  # noqa: S314 - the file's hash is verified
        if root.get("version") != IR_VERSION:
            raise WeightsError(
                f"{xml.name} is an OpenVINO IR of version {root.get('version')}; version "
                f"{IR_VERSION} was expected."
            )
        layers = [layer for layer in root.iterfind("layers/layer") if layer.get("type") == "Const"]
        values = binary.read_bytes()
        return [
            (str(layer.get("name")), _constant(layer.find("data"), values))
            for layer in layers
            if _element_type(layer) == "f32"
        ]
    except (ElementTree.ParseError, KeyError, AttributeError, ValueError) as error:
        raise WeightsError(
            f"{xml.name} and {binary.name} are not an OpenVINO IR that can be read: {error}."
        ) from error


def _element_type(layer: ElementTree.Element) -> str | None:
    data = layer.find("data")
    return None if data is None else data.get("element_type")


def _constant(data: ElementTree.Element | None, values: bytes) -> Tensor:
    if data is None:
        raise ValueError("a constant has no data")
    shape = [int(side) for side in data.attrib["shape"].split(",") if side.strip()]
    array = np.frombuffer(values, "<f4", math.prod(shape), int(data.attrib["offset"]))
    return torch.from_numpy(array.astype(np.float32)).reshape(shape)
