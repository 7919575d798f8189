"""Generators run by OpenVINO: the fastest way to an image on a CPU.

The two halves of the contract are converted once from PyTorch and kept in the cache folder, one
graph for each half and each size of image that is asked for. They have no gradients: methods that
optimise take the PyTorch generator instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
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


class OpenVINOGenerator(DelegatingGenerator):
    """A generator under the same contract, run by OpenVINO on the CPU, without gradients.

    Args:
        generator: the PyTorch generator; its mapping network goes on being used.
        precision: "f32", or "bf16", which is faster where the CPU has bf16 units and differs by
            about 0.002 from f32 on average.
        threads: of a pass; None is OpenVINO's choice.
    """

    def __init__(
        self, generator: Generator, precision: str = "f32", threads: int | None = None
    ) -> None:
        super().__init__(generator)
        import openvino

        self._core = openvino.Core()
        self._settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[str, openvino.CompiledModel] = {}
        self._fingerprint = _fingerprint(generator)

    @torch.no_grad()
    def to_features(self, w_plus: Tensor) -> Tensor:
        """See `Generator.to_features`."""
        return self._run("to_features", _FirstHalf(self.original), (w_plus,))

    @torch.no_grad()
    def from_features(self, features: Tensor, w_plus: Tensor, size: int | None = None) -> Tensor:
        """See `Generator.from_features`."""
        size = self.check_size(size)
        half = _SecondHalf(self.original, size)
        return self._run(f"from_features_{size}", half, (features, w_plus))

    def _run(self, name: str, half: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        if name not in self._compiled:
            self._compiled[name] = self._compile(name, half)
        rows = [
            # Copied, since OpenVINO reuses the memory of its results.
            torch.from_numpy(
                self._compiled[name]([x[i : i + 1].contiguous().numpy() for x in inputs])[0].copy()
            )
            for i in range(len(inputs[0]))
        ]
        return torch.cat(rows)

    def _compile(self, name: str, half: nn.Module) -> openvino.CompiledModel:
        path = weights.cache_dir() / "openvino" / f"{self._fingerprint}-{name}.xml"
        if path.is_file():
            # A damaged graph in the cache is converted anew.
            with contextlib.suppress(RuntimeError):
                return self._core.compile_model(path, "CPU", self._settings)
        self._convert(half, path)
        return self._core.compile_model(path, "CPU", self._settings)

    def _convert(self, half: nn.Module, path: Path) -> None:
        """Convert a half for one image; the graph's files appear whole or not at all."""
        import openvino

        latents = self.original.broadcast(self.original.mean_latent[None]).contiguous()
        inputs: tuple[Tensor, ...] = (latents,)
        if isinstance(half, _SecondHalf):
            inputs = (torch.zeros(1, *self.feature_shape), latents)
        model = openvino.convert_model(half.eval(), example_input=inputs)
        model.reshape({i: openvino.PartialShape(list(x.shape)) for i, x in enumerate(inputs)})
        partial = path.with_name(f"{path.stem}.{os.getpid()}.xml")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            openvino.save_model(model, partial, compress_to_fp16=False)
            os.replace(partial.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The graph of the generator cannot be written to {path.parent} ({error}); free "
                "some space, or choose another folder with SDIC_CACHE."
            ) from error
        finally:
            for file in (partial, partial.with_suffix(".bin")):
                with contextlib.suppress(OSError):
                    file.unlink()


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


def _fingerprint(generator: Generator) -> str:
    """Names a graph by OpenVINO's version, the generator's shape and a sample of its weights."""
    from importlib.metadata import version

    digest = hashlib.sha256(version("openvino").encode())
    for name, tensor in generator.state_dict().items():
        sample = tensor.detach().flatten()[:: max(1, tensor.numel() // 64)].float()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.cpu().numpy().tobytes())
    return f"{generator.name}-{digest.hexdigest()[:16]}"
