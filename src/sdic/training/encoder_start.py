"""A start for the compact encoder: its common w, fitted to generated faces on a frozen trunk.

The true w of a generated face is known, and a frozen trunk's maps need to be computed only once. So
the head that reads w is fitted to thousands of passes over cached maps in the time that training
through the generator needs for a few photos. Training on photos goes on from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.encoders.compact import CompactEncoder
from sdic.generators.base import Generator
from sdic.runtime.allocator import release_memory

IMAGE_SIZE = 256
BATCH, STEPS = 64, 900
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 2e-3, 0.3, 0.3
CHUNK = 8  # images made at once


@dataclass(frozen=True)
class Samples:
    """What the trunk makes of N generated images.

    Attributes:
        taps: the trunk's pooled maps, each [N,...] (`CompactEncoder.taps`).
        latents: w [N,512].
    """

    taps: list[Tensor]
    latents: Tensor

    def at(self, index: Tensor | slice) -> Samples:
        """Some of the samples."""
        return Samples([tap[index] for tap in self.taps], self.latents[index])


@torch.no_grad()
def collect(encoder: CompactEncoder, generator: Generator, count: int, seed: int) -> Samples:
    """Taps and w of `count` generated images."""
    latents = generator.sample(count, seed)
    taps = []
    for part in torch.split(latents, CHUNK):
        images = generator(generator.broadcast(part), IMAGE_SIZE).float().clamp(-1, 1)
        taps.append(encoder.taps(images))
        release_memory()
    return Samples([torch.cat(maps) for maps in zip(*taps, strict=True)], latents)


def fit(encoder: CompactEncoder, samples: Samples, seed: int = 0, steps: int = STEPS) -> None:
    """Fit the encoder's head of the common w, in place; the trunk and the deltas stay."""
    random = torch.Generator().manual_seed(seed)
    parameters = [*encoder.reduce.parameters(), *encoder.to_w.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            chosen = torch.randint(len(samples.latents), (BATCH,), generator=random)
            part = samples.at(chosen)
            read = nnf.dropout(encoder.embed(part.taps), DROPOUT)
            loss = nnf.mse_loss(encoder.mean_latent + encoder.to_w(read), part.latents)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()


@torch.no_grad()
def explained(encoder: CompactEncoder, samples: Samples) -> float:
    """The part of the variance of w that the encoder's common w explains: 1 is all of it."""
    w = encoder.mean_latent + encoder.to_w(encoder.embed(samples.taps))
    error = (w - samples.latents).square().mean()
    unexplained: float = (error / samples.latents.var(dim=0).mean()).item()
    return 1 - unexplained
