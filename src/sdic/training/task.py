"""What the training loop needs to know of a method: a task and the batches it is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Images of one micro-step, and what is known of them.

    Attributes:
        images: [N,3,H,W] in [-1,1].
        latents: [N,512], the true w of a generated image; zeros for a photo.
        known: [N] bool, whether the row of `latents` is the truth.
        seed: seed of everything else that a task wants to draw in this step.
        edit: [N,S,512], an edit of each image as a step of its w+; None where there are none.
        edited: [N,3,H,W] in [-1,1], the true images after the edit where `known`; None where there
            are no edits.
    """

    images: Tensor
    latents: Tensor
    known: Tensor
    seed: int
    edit: Tensor | None = None
    edited: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device)

        return Batch(
            self.images.to(device),
            self.latents.to(device),
            self.known.to(device),
            self.seed,
            moved(self.edit),
            moved(self.edited),
        )


@dataclass(frozen=True)
class Phase:
    """One optimiser step within a training step.

    Attributes:
        name: names the optimiser in checkpoints and the losses of this phase in logs.
        modules: keys of the networks that this phase trains; all others stand still.
        learning_rate_scale: times the recipe's learning rate.
    """

    name: str
    modules: tuple[str, ...]
    learning_rate_scale: float = 1.0


class Data(Protocol):
    """A source of batches without a state: a batch is a function of its index."""

    def batch(self, index: int, rank: int, world_size: int) -> Batch:
        """Micro-batch `index` of process `rank` of `world_size`."""


class Task(Protocol):
    """A method as the loop sees it.

    Attributes:
        networks: the trained networks by name. The loop puts them on their device and replaces
            the entries by wrapped ones (precision, several processes), so a task calls a trained
            network through this dictionary only.
        skips_parameters: whether a step may leave parameters of a phase without a gradient.
    """

    networks: dict[str, nn.Module]
    skips_parameters: bool

    def frozen(self) -> Sequence[nn.Module]:
        """Networks that are used and not trained; the loop only moves them to the device."""

    def phases(self) -> Sequence[Phase]:
        """The optimiser steps of one training step, in their order."""

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Scalar losses by name; the first is the total that is minimised."""

    def sample_grid(self, batch: Batch) -> Tensor:
        """Pictures [R,K,3,H,W] in about [-1,1] to look at: R rows of K, e.g. photo and result."""

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """Measures of each image: name -> [N]."""
