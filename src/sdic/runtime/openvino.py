"""Generators and networks run by OpenVINO: the fastest way to an image on a CPU.

The two halves of a generator are converted once from PyTorch and kept in the cache folder, one
graph for each half and each size of image that is asked for; so is any other network. They have no
gradients: methods that optimise take the PyTorch generator instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sdic import weights
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.runtime.delegating import DelegatingGenerator

if TYPE_CHECKING:
    import openvino


def is_available() -> bool:
    """Whether the package `openvino` is installed."""
    return find_spec("openvino") is not None


class Graphs:
    """Modules converted from PyTorch once, kept in the cache folder, and compiled at first use.

    Args:
        module: stands for all that is run: its weights and code tell its graphs from others.
        precision: "f32", or "bf16", which is faster where the CPU has bf16 units.
        threads: of a pass; None is OpenVINO's choice.
    """

    def __init__(self, module: nn.Module, precision: str, threads: int | None) -> None:
        import openvino

        self._core = openvino.Core()
        self._settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[str, openvino.CompiledModel] = {}
        self._fingerprint = _fingerprint(module)

    def run(self, name: str, module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The results of a module, image by image, for inputs [N,...].

        Args:
            name: tells the graph from others of this object.
            module: what is converted, where the cache does not have it.
            inputs: of the same shapes at every call, but for N.

        Raises:
            InputError: the cache folder cannot be written.
        """
        if name not in self._compiled:
            self._compiled[name] = self._compile(name, module, [x[:1] for x in inputs])
        rows = []
        for i in range(len(inputs[0])):
            results = self._compiled[name]([x[i : i + 1].contiguous().numpy() for x in inputs])
            # Copied, since OpenVINO reuses the memory of its results.
            rows.append([torch.from_numpy(results[k].copy()) for k in range(len(results))])
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    def _compile(
        self, name: str, module: nn.Module, examples: Sequence[Tensor]
    ) -> openvino.CompiledModel:
        path = weights.cache_dir() / "openvino" / f"{self._fingerprint}-{name}.xml"
        if path.is_file():
            # A damaged graph in the cache is converted anew.
            with contextlib.suppress(RuntimeError):
                return self._core.compile_model(path, "CPU", self._settings)
        self._convert(module, path, tuple(examples))
        return self._core.compile_model(path, "CPU", self._settings)

    def _convert(self, module: nn.Module, path: Path, examples: tuple[Tensor, ...]) -> None:
        """Convert a module for one image; the graph's files appear whole or not at all."""
        import openvino

        examples = tuple(x.contiguous() for x in examples)
        with warnings.catch_warnings():
            # A graph is for one shape, so what tracing takes for constant is.
            warnings.filterwarnings("ignore", message="(Converting a tensor|torch.as_tensor)")
            model = openvino.convert_model(module.eval(), example_input=examples)
        model.reshape({i: openvino.PartialShape(list(x.shape)) for i, x in enumerate(examples)})
        partial = path.with_name(f"{path.stem}.{os.getpid()}.xml")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            openvino.save_model(model, partial, compress_to_fp16=False)
            os.replace(partial.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The graph of the network cannot be written to {path.parent} ({error}); free "
                "some space, or choose another folder with SDIC_CACHE."
            ) from error
        finally:
            for file in (partial, partial.with_suffix(".bin")):
                with contextlib.suppress(OSError):
                    file.unlink()


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


def _fingerprint(module: nn.Module) -> str:
    """Names a graph by OpenVINO's version, the code of its layers, and a sample of its weights.

    A generator is also named by the shape of F, since where it is split is in none of these.
    """
    from importlib.metadata import version

    digest = hashlib.sha256(version("openvino").encode())
    for file in sorted(_source_files(module)):
        digest.update(Path(file).read_bytes())
    digest.update(repr(tuple(getattr(module, "feature_shape", ()))).encode())
    for name, tensor in module.state_dict().items():
        sample = tensor.detach().flatten()[:: max(1, tensor.numel() // 64)].float()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.cpu().numpy().tobytes())
    return f"{getattr(module, 'name', 'network')}-{digest.hexdigest()[:16]}"


def _source_files(module: nn.Module) -> set[str]:
    """The package's own files that define a module and its parts."""
    kinds = {type(part) for part in module.modules()}
    package = __name__.partition(".")[0]
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] == package]
    return {file for kind in own if (file := inspect.getsourcefile(kind)) is not None}
