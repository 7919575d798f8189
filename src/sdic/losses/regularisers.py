"""What keeps latents and noise where the generator knows them: e4e's and PTI's regularisers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as nnf

SMALLEST_NOISE = 8  # side of the coarsest noise map that the autocorrelation looks at


def offset_norm(latents: Tensor) -> Tensor:
    """e4e's regulariser [N] of w+ [N,S,512]: sum over rows of |w_i - w_0| (Tov et al. 2021)."""
    norms: Tensor = torch.linalg.vector_norm(latents[:, 1:] - latents[:, :1], dim=2)
    return norms.sum(dim=1)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of a discriminator, a scalar: real codes up, encoded codes down."""
    return nnf.softplus(-real_logits).mean() + nnf.softplus(fake_logits).mean()


def adversarial_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of the encoder against the discriminator, a scalar."""
    return nnf.softplus(-fake_logits).mean()


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """Squared gradient norm of the logits at real samples [N,...], their mean, a scalar.

    To be weighted by gamma/2, times the interval where it is applied lazily (Mescheder 2018).
    `real` must have required gradients before the logits were computed from it.
    """
    (slope,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return slope.square().flatten(1).sum(dim=1).mean()


def noise_autocorrelation(noises: Sequence[Tensor]) -> Tensor:
    """Penalty of noise maps [N,1,H,W] that carry structure, a scalar (Karras 2020, appendix D).

    The squared mean product of a map and itself shifted by one pixel, in x and in y, at every
    scale from the map's own down to 8x8. The scales are plain 2x2 averages, as published; the paper
    also doubles the amplitude at each.
    """
    terms = []
    for noise in noises:
        while True:
            terms += [(noise * noise.roll(1, dims=axis)).mean().square() for axis in (2, 3)]
            if noise.shape[-1] <= SMALLEST_NOISE:
                break
            noise = nnf.avg_pool2d(noise, 2)
    return torch.stack(terms).sum()


@torch.no_grad()
def renormalise_noise(noises: Sequence[Tensor]) -> None:
    """Bring each noise map back to zero mean and unit mean square, in place."""
    for noise in noises:
        noise.sub_(noise.mean()).mul_(noise.square().mean().rsqrt())
