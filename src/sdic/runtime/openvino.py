"""Generators and networks run by OpenVINO: the fastest way to an image on a CPU.

The two halves of a generator are converted once from PyTorch and kept in the cache folder, one
graph for each half and each size of image that is asked for; so is any other network. They have no
gradients: methods that optimise take the PyTorch generator instead. All of it may be called from
several threads at once.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sdic import files, weights
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.runtime.delegating import DelegatingGenerator
from sdic.runtime.fingerprint import fingerprint

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
MAX_IN_FLIGHT = 4  # calls of one graph at a time; more wait
SMALLEST_MAP = 64  # constants [1,1,H,W] of fewer values are kernels, no maps of noise

_importing = threading.Lock()
_converting = threading.Lock()  # one conversion at a time, so that no graph is made twice


def is_available() -> bool:
    """Whether the package `openvino` is installed."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """The module `openvino`, imported so that it reports to nobody.

    Its import and its `convert_model` send events to an analytics service through the package
    `openvino_telemetry`, and keep an identity in the home folder. They do without where the package
    is missing, so it is hidden during the import. All of sdic takes OpenVINO from here.
    """
    hidden = "openvino_telemetry"
    with _importing:
        if "openvino" not in sys.modules:
            before = sys.modules.get(hidden)
            sys.modules[hidden] = None  # type: ignore[assignment]  # how Python marks what is not there
            try:
                importlib.import_module("openvino")
            finally:
                sys.modules.pop(hidden)
                if before is not None:
                    sys.modules[hidden] = before
    return importlib.import_module("openvino")


def verify_graphs() -> list[tuple[str, bool]]:
    """The files of all graphs in the cache, by name, and whether each is as it was written."""
    paths = sorted(_folder().glob("*.safetensors"))
    return [(path.stem, _read(path) is not None) for path in paths]


class Graphs:
    """Modules converted from PyTorch once, kept in the cache folder, and loaded at first use.

    Args:
        module: stands for all that is run: its weights, settings and code tell its graphs from
            others.
        precision: "f32", or "bf16", which is faster where the CPU has bf16 units.
        threads: of a pass; None is OpenVINO's choice.
    """

    def __init__(self, module: nn.Module, precision: str, threads: int | None) -> None:
        self._module = module
        self._settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._fingerprint = ""  # at the first use, since it takes a while
        self._loading = threading.Lock()
        self._loaded: dict[str, _Graph] = {}

    def run(self, name: str, module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The results of a module, image by image, for inputs [N,...].

        Args:
            name: tells the graph from others of this object.
            module: what is converted, where the cache does not have it.
            inputs: of the same shapes at every call, but for N.

        Raises:
            InputError: the cache folder cannot be written.
        """
        if name not in self._loaded:
            with self._loading:
                if name not in self._loaded:
                    self._loaded[name] = self._load(name, module, [x[:1] for x in inputs])
        return self._loaded[name].run(inputs)

    def _load(self, name: str, module: nn.Module, examples: Sequence[Tensor]) -> _Graph:
        self._fingerprint = self._fingerprint or self._describe()
        graph = self._load_kept(self._path(name))
        if graph is not None:
            return graph
        with _converting:
            self._fingerprint = self._describe()  # weights may have changed since the first use
            path = self._path(name)
            graph = self._load_kept(path)  # another thread may have been first
            if graph is None:
                model = _convert(module, tuple(examples))
                compiled = _core().compile_model(model, DEVICE, self._settings)
                _write(path, compiled.export_model().getvalue())
                graph = _Graph(compiled)
            return graph

    def _load_kept(self, path: Path) -> _Graph | None:
        """The graph in the cache; None if there is none, or it is damaged."""
        kept = _read(path)
        if kept is None:
            return None
        blob = import_openvino().Tensor(kept, shared_memory=True)
        try:
            return _Graph(_core().import_model(blob, DEVICE, self._settings), kept)
        except RuntimeError:
            return None

    def _path(self, name: str) -> Path:
        owner = getattr(self._module, "name", "network")
        return _folder() / f"{owner}-{self._fingerprint}-{name}.safetensors"

    def _describe(self) -> str:
        """What decides on a compiled graph: module, versions, processor, precision."""
        properties = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        return fingerprint(
            self._module,
            import_openvino().__version__,
            torch.__version__,
            [_core().get_property(DEVICE, name) for name in properties],
            self._settings["INFERENCE_PRECISION_HINT"],
        )


class _Graph:
    """A compiled graph with a request for each call that is under way.

    Args:
        compiled: whose own request is shared by all threads, and therefore not used.
        memory: what the graph was read from; it may go on using it.
    """

    def __init__(self, compiled: openvino.CompiledModel, memory: Any = None) -> None:
        self._compiled = compiled
        self._memory = memory
        self._idle: LifoQueue[openvino.InferRequest | None] = LifoQueue()
        for _ in range(MAX_IN_FLIGHT):
            self._idle.put(None)  # made when there is need of it

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Inputs [N,...], image by image, to results [N,...] that nothing else writes to."""
        rows = []
        with self._request() as request:
            for i in range(len(inputs[0])):
                values = [x[i : i + 1].contiguous().numpy() for x in inputs]
                if len(self._compiled.inputs) > len(values):
                    values.append(np.ones(1, np.float32))  # see `_keep_noise_small`
                results = request.infer(values, share_inputs=True, share_outputs=False)
                rows.append([torch.from_numpy(results[k]) for k in range(len(results))])
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    @contextmanager
    def _request(self) -> Iterator[openvino.InferRequest]:
        request = self._idle.get()
        try:
            if request is None:
                request = self._compiled.create_infer_request()
            yield request
        finally:
            self._idle.put(request)


class OpenVINOGenerator(DelegatingGenerator):
    """A generator under the same contract, run by OpenVINO on the CPU, without gradients.

    Args:
        generator: the PyTorch generator; its mapping network goes on being used.
        precision: see `Graphs`; images of "bf16" differ by about 0.002 from "f32" on average.
        threads: see `Graphs`.
    """

    def __init__(
        self, generator: Generator, precision: str = "f32", threads: int | None = None
    ) -> None:
        super().__init__(generator)
        self.precision = precision
        self._graphs = Graphs(generator, precision, threads)

    @torch.no_grad()
    def to_features(self, w_plus: Tensor) -> Tensor:
        """See `Generator.to_features`."""
        return self._graphs.run("to_features", _FirstHalf(self.original), (w_plus,))[0]

    @torch.no_grad()
    def from_features(self, features: Tensor, w_plus: Tensor, size: int | None = None) -> Tensor:
        """See `Generator.from_features`."""
        size = self.check_size(size)
        half = _SecondHalf(self.original, size)
        return self._graphs.run(f"from_features_{size}", half, (features, w_plus))[0]


class OpenVINONetwork(nn.Module):
    """A network with the same signature, run by OpenVINO on the CPU, without gradients.

    Its inputs have one shape for each image, always; one result is a tensor, more are a tuple.

    Args:
        network: the PyTorch network, in eval mode.
        precision: see `Graphs`.
        threads: see `Graphs`.
    """

    def __init__(
        self, network: nn.Module, precision: str = "f32", threads: int | None = None
    ) -> None:
        super().__init__()
        self.original = network
        self._graphs = Graphs(network, precision, threads)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Inputs [N,...] to what the network makes of them."""
        results = self._graphs.run("forward", self.original, inputs)
        return results[0] if len(results) == 1 else results


class _FirstHalf(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, w_plus: Tensor) -> Tensor:
        return self.generator.to_features(w_plus)


class _SecondHalf(nn.Module):
    def __init__(self, generator: Generator, size: int) -> None:
        super().__init__()
        self.generator = generator
        self.size = size

    def forward(self, features: Tensor, w_plus: Tensor) -> Tensor:
        return self.generator.from_features(features, w_plus, self.size)


@cache
def _core() -> openvino.Core:
    return import_openvino().Core()


def _folder() -> Path:
    return weights.cache_dir() / "openvino"


def _convert(module: nn.Module, examples: tuple[Tensor, ...]) -> openvino.Model:
    """Convert a module for one image."""
    openvino = import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    examples = tuple(x.contiguous() for x in examples)
    with warnings.catch_warnings():
        # A graph is for one shape, so what tracing takes for constant is.
        warnings.filterwarnings("ignore", message="(Converting a tensor|torch.as_tensor)")
        trace: Any = torch.jit.trace
        traced = trace(module, examples, strict=False, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, shared_memory=False)  # lives until it is converted
    model = frontend.convert(frontend.load(decoder))
    model.reshape({i: openvino.PartialShape(list(x.shape)) for i, x in enumerate(examples)})
    _keep_noise_small(model)
    return model


def _keep_noise_small(model: openvino.Model) -> None:
    """Multiply fixed maps of noise by a further input, which is 1.

    OpenVINO adds constants ahead of time: noise [1,1,H,W] and the bias after it would become one
    map [1,C,H,W], of which a generator has hundreds of megabytes, to be read at every start.
    """
    openvino = import_openvino()
    one = openvino.op.Parameter(openvino.Type.f32, openvino.Shape([1]))
    found = False
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            continue
        shape = list(node.get_output_shape(0))
        if len(shape) == 4 and shape[:2] == [1, 1] and shape[2] * shape[3] >= SMALLEST_MAP:
            readers = node.output(0).get_target_inputs()
            scaled = openvino.opset8.multiply(node, one).output(0)
            for reader in readers:
                reader.replace_source_output(scaled)
            found = True
    if found:
        model.add_parameters([one])


def _write(path: Path, blob: bytes) -> None:
    """Keep a compiled graph and its checksum as one file, which appears whole or not at all."""
    graph = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
    advice = "free some space, or choose another folder with SDIC_CACHE"
    files.save_tensors(path, {"graph": graph}, {"crc32": str(zlib.crc32(blob))}, InputError, advice)


def _read(path: Path) -> Any:
    """The bytes of a compiled graph, as a NumPy array; None if there are none, or not as written.

    A changed bit in a graph would give a wrong face, and no error. CRC-32 finds every change within
    32 bits in a row, and takes less than half of the time of a digest.
    """
    try:
        tensors, texts = files.read_tensors(path)
        graph = tensors["graph"].numpy()
    except (OSError, SafetensorError, KeyError):
        return None
    return graph if str(zlib.crc32(graph.data)) == texts.get("crc32") else None
