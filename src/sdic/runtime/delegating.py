"""What the accelerated generators share: the contract of a generator, answered by another one."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from sdic.generators.base import Generator

# While PyTorch compiles in one thread, a flag of the whole process makes it refuse to run what is
# compiled already in another one.
_compiled_calls = threading.Lock()


class DelegatingGenerator(Generator):
    """A generator that runs another one in its own way.

    Attributes:
        original: the PyTorch generator, for whoever needs its gradients or weights.
        precision: "f32" or "bf16".
    """

    precision = "f32"

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.original = generator
        self.name = generator.name
        self.domain, self.space = generator.domain, generator.space
        self.identity = generator.identity
        self.row_layers = generator.row_layers
        self.num_styles = generator.num_styles
        self.resolution = generator.resolution
        self.feature_shape = generator.feature_shape
        self.mean_latent = generator.mean_latent

    def mapping(self, z: Tensor) -> Tensor:
        """See `Generator.mapping`."""
        return self.original.mapping(z)

    def styles(self, w_plus: Tensor) -> Tensor:
        """See `Generator.styles`."""
        return self.original.styles(w_plus)


class CompiledGenerator(DelegatingGenerator):
    """A generator whose halves are compiled by torch.compile, each at its first call.

    Threads take turns.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__(generator)
        self._first_half = torch.compile(generator.to_features)
        self._second_half = torch.compile(generator.from_features)

    def to_features(self, w_plus: Tensor) -> Tensor:
        """See `Generator.to_features`."""
        with _compiled_calls:
            return self._first_half(w_plus)

    def from_features(self, features: Tensor, w_plus: Tensor, size: int | None = None) -> Tensor:
        """See `Generator.from_features`."""
        with _compiled_calls:
            return self._second_half(features, w_plus, size)


def original(generator: Generator) -> Generator:
    """The PyTorch generator behind an accelerated one, or the generator itself."""
    return generator.original if isinstance(generator, DelegatingGenerator) else generator
