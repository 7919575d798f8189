from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sdic.errors import WeightsError
from sdic.weights.conversion import convert
from sdic.weights.conversion.openvino_ir import read_constants


class NotTensors:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_state_dicts_keep_their_keys(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {"a": shared[:4].half(), "b": shared.reshape(2, 3).T, "steps": torch.tensor(3)}
    torch.save(state, tmp_path / "one.pth")
    tensors = convert("torch-pickles", [tmp_path / "one.pth"])
    assert list(tensors) == ["a", "b", "steps"]
    assert tensors["a"].dtype == torch.float32
    assert tensors["b"].is_contiguous()
    assert torch.equal(tensors["b"], state["b"])
    assert tensors["steps"].dtype == torch.int64


def test_several_state_dicts_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        torch.save({"weight": torch.ones(1)}, tmp_path / f"{name}.pt")
    tensors = convert("torch-pickles", [tmp_path / "first.pt", tmp_path / "second.pt"])
    assert list(tensors) == ["first.weight", "second.weight"]


@pytest.mark.parametrize("content", [{"a": NotTensors()}, {"a": 1}, [torch.ones(1)]])
def test_refuses_a_pickle_of_anything_but_tensors(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad\.pth"):
        convert("torch-pickles", [tmp_path / "bad.pth"])
    assert capsys.readouterr().out == ""


def test_refuses_values_that_are_not_finite(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"'a' of nan\.pth"):
        convert("torch-pickles", [tmp_path / "nan.pth"])


def test_an_unknown_converter_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'magic'"):
        convert("magic", [tmp_path])


def write_ir(folder: Path, version: int = 10, offset: int = 8) -> list[Path]:
    xml = folder / "net.xml"
    xml.write_text(
        f'<net name="n" version="{version}"><layers>'
        '<layer id="0" name="x" type="Parameter"><data shape="1,3" element_type="f32"/></layer>'
        '<layer id="1" name="shape" type="Const">'
        '<data element_type="i64" offset="0" shape="1" size="8"/></layer>'
        f'<layer id="2" name="w" type="Const"><data element_type="f32" offset="{offset}" '
        'shape="2, 3" size="24"/></layer>'
        '<layer id="3" name="scalar" type="Const">'
        '<data element_type="f32" offset="32" shape="" size="4"/></layer></layers></net>'
    )
    (folder / "net.bin").write_bytes(struct.pack("<q7f", 5, *range(7)))
    return [xml, folder / "net.bin"]


def test_constants_of_an_openvino_graph(tmp_path: Path) -> None:
    constants = dict(read_constants(*write_ir(tmp_path)))
    assert list(constants) == ["w", "scalar"]
    assert torch.equal(constants["w"], torch.arange(6.0).reshape(2, 3))
    assert constants["scalar"].shape == ()
    assert constants["scalar"].item() == 6


def test_refuses_an_openvino_graph_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="version 11"):
        read_constants(*write_ir(tmp_path, version=11))
    with pytest.raises(WeightsError, match="not an OpenVINO IR that can be read"):
        read_constants(*write_ir(tmp_path, offset=20))
    with pytest.raises(WeightsError, match="8 linear layers"):
        convert("mobile-stylegan", write_ir(tmp_path) * 2)


def tensorflow_js(folder: Path, graph: bool) -> list[Path]:
    half = np.array([0.5, -2, 1024], "<f2")
    entries = [
        {"name": "plain", "shape": [2], "dtype": "float32"},
        {
            "name": "layer/half",
            "shape": [3, 1],
            "dtype": "float32",
            "quantization": {"dtype": "float16", "original_dtype": "float32"},
        },
        {
            "name": "bytes",
            "shape": [3],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": -10.0},
        },
        {
            "name": "words",
            "shape": [1, 2],
            "dtype": "float32",
            "quantization": {"dtype": "uint16", "scale": 0.25, "min": 1.0},
        },
        {"name": "shape", "shape": [2], "dtype": "int32"},
        {"name": "scalar", "shape": [], "dtype": "float32"},
    ]
    groups = [{"paths": ["net.bin"], "weights": entries[:3]}, {"weights": entries[3:]}]
    content = {"format": "graph-model", "weightsManifest": groups} if graph else groups
    (folder / "net.json").write_text(json.dumps(content))
    stored = [
        struct.pack("<2f", 1.5, -3),
        half.tobytes(),
        bytes([0, 1, 255]),
        struct.pack("<2H", 4, 65535),
        struct.pack("<2i", -1, 512),
        struct.pack("<f", 9),
    ]
    (folder / "net.bin").write_bytes(b"".join(stored))
    return [folder / "net.json", folder / "net.bin"]


@pytest.mark.parametrize("graph", [True, False])
def test_tensorflow_js_values_are_restored(tmp_path: Path, graph: bool) -> None:
    tensors = convert("tensorflow-js", tensorflow_js(tmp_path, graph))
    assert tensors["plain"].tolist() == [1.5, -3]
    assert tensors["layer/half"].tolist() == [[0.5], [-2], [1024]]
    assert tensors["bytes"].tolist() == [-10, -9.5, 117.5]
    assert tensors["words"].tolist() == [[2, 16384.75]]
    assert tensors["shape"].tolist() == [-1, 512]
    assert tensors["shape"].dtype == torch.int32
    assert tensors["scalar"].shape == ()
    assert all(t.dtype == torch.float32 for name, t in tensors.items() if name != "shape")


@pytest.mark.parametrize("change", [-1, 1])
def test_tensorflow_js_has_to_fit_to_the_last_byte(tmp_path: Path, change: int) -> None:
    files = tensorflow_js(tmp_path, graph=True)
    content = files[1].read_bytes()
    files[1].write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(WeightsError, match=r"net\.json and net\.bin"):
        convert("tensorflow-js", files)


def test_onnx_initializers_are_those_of_the_onnx_library(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    arrays = {
        "12": np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32),
        "shape": np.array([-1, 512], np.int64),
        "half": np.array(0.5, np.float16),
    }
    initializers = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], initializers)
    file = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph), file)

    tensors = convert("onnx", [file])
    assert list(tensors) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(tensors[name].numpy(), array)

    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        convert("onnx", [file])


class DlibWriter:
    """Writes dlib's serialization, from its description, independently of the reader."""

    def __init__(self) -> None:
        self.content = bytearray()

    def integer(self, value: int) -> None:
        size = (abs(value).bit_length() + 7) // 8 or 1
        self.content.append(size | (0x80 if value < 0 else 0))
        self.content += abs(value).to_bytes(size, "little")

    def integers(self, *values: int) -> None:
        for value in values:
            self.integer(value)

    def string(self, text: str) -> None:
        self.integer(len(text))
        self.content += text.encode()

    def tensor(self, shape: Sequence[int], values: Sequence[float] = ()) -> None:
        self.integers(2, *shape)
        self.content += struct.pack(f"<{len(values)}f", *values)

    def training_left_overs(self) -> None:
        self.content += b"110"
        for _ in range(3):
            self.tensor((0, 0, 0, 0))

    def convolution(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        values = [*weight.flatten().tolist(), *bias.tolist()]
        self.string("con_4")
        self.tensor((len(values), 1, 1, 1), values)
        self.integers(len(weight), *weight.shape[2:], 2, 2, 0, 0)
        self.integers(1, *weight.shape)
        self.integers(1, 1, len(bias), 1, 1)
        self.integers(*[16, -4] * 3, 0, 11)
        self.training_left_overs()

    def affine(self, gamma: torch.Tensor, beta: torch.Tensor) -> None:
        self.string("affine_")
        self.tensor((2 * len(gamma), 1, 1, 1), [*gamma.tolist(), *beta.tolist()])
        for _ in range(2):
            self.integers(1, 1, len(gamma), 1, 1)
        self.integer(0)
        self.training_left_overs()

    def plain(self, kind: str, *numbers: int) -> None:
        self.string(kind)
        self.integers(*numbers)
        self.training_left_overs()

    def fully_connected(self, weight: torch.Tensor) -> None:
        outputs, inputs = weight.shape
        self.string("fc_2")
        self.integers(outputs, inputs)
        self.tensor((inputs, outputs, 1, 1), weight.T.flatten().tolist())
        self.integers(1, inputs, outputs, 1, 1, 1, 0, 0, 0, 0, 1)
        self.integers(*[16, -4] * 3, 0, 11)
        self.training_left_overs()


def write_dlib(file: Path, expected: dict[str, torch.Tensor]) -> None:
    writer = DlibWriter()
    writer.integer(1)
    writer.string("loss_metric_2")
    writer.integers(10737418, -28, 10066330, -24)
    writer.integers(2, 2, 1, 2, 2, 2, 1, 2, 2, 3)  # seven layers and two tags, then the innermost
    writer.string("input_rgb_image_sized")
    writer.integers(*[8046837, -16] * 3, 150, 150)
    writer.convolution(expected["conv.0.weight"], expected["conv.0.bias"])
    writer.integer(1)
    writer.affine(expected["affine.0.gamma"], expected["affine.0.beta"])
    writer.plain("max_pool_2", 3, 3, 2, 2, 0, 0)
    writer.convolution(expected["conv.1.weight"], expected["conv.1.bias"])
    writer.affine(expected["affine.1.gamma"], expected["affine.1.beta"])
    writer.plain("add_prev_")
    writer.plain("relu_")
    writer.fully_connected(expected["fc.weight"])
    file.write_bytes(writer.content)


def test_dlib_networks_are_read_in_the_order_of_execution(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = {
        "conv.0.weight": (20, 3, 7, 7),
        "conv.0.bias": (20,),
        "affine.0.gamma": (20,),
        "affine.0.beta": (20,),
        "conv.1.weight": (4, 20, 3, 3),
        "conv.1.bias": (4,),
        "affine.1.gamma": (4,),
        "affine.1.beta": (4,),
        "fc.weight": (130, 4),
    }
    expected = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    file = tmp_path / "net.dat"
    write_dlib(file, expected)
    tensors = convert("dlib-resnet", [file])
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        assert torch.equal(tensors[name], value), name

    whole = file.read_bytes()
    for content in (whole[:-10], whole + b"\x01\x01", whole.replace(b"relu_", b"relo_")):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match="not dlib's face recognition network"):
            convert("dlib-resnet", [file])
