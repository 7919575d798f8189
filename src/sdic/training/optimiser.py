"""Optimisers by name, the learning rate over time, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from pytorch_optimizer import Muon, Ranger
from torch import Tensor, nn

from sdic.training.recipe import Optimiser

SMALLEST_MATRIX = 64  # rows and columns from which on Muon's orthogonal step pays


def create(settings: Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe; its learning rate is set anew at each step of the loop.

    Ranger is RAdam with lookahead and gradient centralisation, with the constants of the published
    SDIC: betas .95 and .999, eps 1e-5, k 6, alpha .5. `degenerated_to_sgd` is essential: without
    it, this library *climbs* the loss in the first five steps, where RAdam has no second moment
    yet. With it the library follows the published optimiser to 5e-7 over 20 steps.
    """
    if settings.name == "ranger":
        return Ranger(
            parameters,
            lr=settings.learning_rate,
            betas=(0.95, 0.999),
            eps=1e-5,
            k=6,
            alpha=0.5,
            use_gc=True,
            degenerated_to_sgd=True,
            weight_decay=settings.weight_decay,
        )
    if settings.name == "muon":
        return _muon(settings, list(parameters))
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def _muon(settings: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Muon (Jordan 2024) for large kernels and matrices, AdamW for everything else.

    The step of a matrix is orthogonal and scaled to the size of an AdamW step, so that one learning
    rate serves both.
    """
    large = [p.ndim >= 2 and min(p.shape[:2]) >= SMALLEST_MATRIX for p in parameters]
    groups = [
        {"params": [p for p, is_large in zip(parameters, large, strict=True) if is_large == muon],
         "use_muon": muon, "weight_decay": settings.weight_decay}
        for muon in (True, False)
    ]  # fmt: skip
    return Muon(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        adamw_betas=(0.9, 0.99),
        use_adjusted_lr=True,
    )


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of step `step` (0-based) of `steps`: warm up, hold, fall along a cosine."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    start = settings.decay_start * steps
    progress = min(1.0, max(0.0, (step - start) / max(1.0, steps - start)))
    fall = settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * rise * fall


class Ema:
    """Exponential moving average of the weights and statistics of some networks, in float32.

    Early steps use a smaller decay, (1 + n) / (10 + n), so that the start is soon forgotten.
    Decay 0 is no average: it equals the weights.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self._weights = {
            f"{name}.{key}": value
            for name, network in networks.items()
            for key, value in network.state_dict().items()
            if value.is_floating_point()
        }
        self.average = {key: value.float().clone() for key, value in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        averages = list(self.average.values())
        weights = [value.float() for value in self._weights.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor]) -> None:
        """Take over a saved average; a key that is missing there starts at the weights."""
        for key, value in self.average.items():
            value.copy_(average.get(key, self._weights[key]))

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Within this context the networks carry the average instead of their weights."""
        kept = {key: value.clone() for key, value in self._weights.items()}
        for key, value in self._weights.items():
            value.copy_(self.average[key])
        try:
            yield
        finally:
            for key, value in self._weights.items():
                value.copy_(kept[key])
