"""Gradient descent on what an image is generated from: the loop of all methods that iterate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Part of the steps in which the rate rises linearly, and in which it falls along a cosine.
WARM_UP = 0.05
COOL_DOWN = 0.25
# A loss that falls by less than this part of itself counts as standing still.
IMPROVEMENT = 1e-3


@dataclass(frozen=True)
class Group:
    """Leaf tensors that share a learning rate."""

    parameters: Sequence[Tensor]
    rate: float


def schedule(t: float) -> float:
    """Factor of the learning rate at t in [0,1] of the way (Karras 2020, appendix D)."""
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / COOL_DOWN))
    return fall * min(1.0, t / WARM_UP)


@torch.enable_grad()  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def descend(
    groups: Sequence[Group],
    evaluate: Callable[[float], tuple[Tensor, Tensor]],
    steps: int,
    plateau: int | None = None,
    report: Callable[[int, float], None] | None = None,
    factor: Callable[[float], float] = schedule,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Minimise by Adam and leave the best values seen in the parameters.

    Images of a batch do not influence each other: each keeps its own best values, and those are
    settled as soon as it stops.

    Args:
        groups: leaf tensors [N,...]; of any shape where N is 1.
        evaluate: at t in [0,1] of the way, the losses [N] of the present values, differentiable,
            and whether each image is good enough [N].
        steps: at most so many.
        plateau: an image also stops after so many steps without a falling loss; None is never.
        report: gets the number of steps done and the mean loss before the last one.
        factor: of the learning rates at t in [0,1] of the way.
        after_step: called after each step, to bring parameters back to where they may be.
    """
    optimiser = torch.optim.Adam(
        [{"params": list(group.parameters), "lr": group.rate} for group in groups]
    )
    best = _Best([value for group in groups for value in group.parameters], plateau)
    for step in range(steps):
        t = (step + 0.5) / steps
        for settings, group in zip(optimiser.param_groups, groups, strict=True):
            settings["lr"] = group.rate * factor(t)
        losses, good = evaluate(t)
        if best.update(losses.detach(), good):
            break
        optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if after_step is not None:
            after_step()
        if report is not None:
            report(step + 1, losses.detach().mean().item())
    else:
        with torch.no_grad():
            best.update(*evaluate(1.0))
    best.restore()


class _Best:
    """The values of each image at its lowest loss so far, and which images have stopped."""

    def __init__(self, parameters: Sequence[Tensor], plateau: int | None) -> None:
        self.parameters = parameters
        self.plateau = plateau
        self.kept = [value.detach().clone() for value in parameters]
        self.lowest: Tensor | None = None

    def update(self, losses: Tensor, good: Tensor) -> bool:
        """Take over values whose loss [N] is the lowest; returns whether all images stopped."""
        if self.lowest is None:
            self.lowest = torch.full_like(losses, math.inf)
            self.reference = self.lowest.clone()
            self.still = torch.zeros_like(losses, dtype=torch.long)
            self.stopped = torch.zeros_like(losses, dtype=torch.bool)
        better = (losses < self.lowest) & ~self.stopped
        self.lowest = torch.where(better, losses, self.lowest)
        for kept, value in zip(self.kept, self.parameters, strict=True):
            mask = better.reshape(-1, *[1] * (value.ndim - 1)) if value.ndim else better.all()
            kept.copy_(torch.where(mask, value.detach(), kept))
        fell = losses < (1 - IMPROVEMENT) * self.reference
        self.reference = torch.where(fell, losses, self.reference)
        self.still = torch.where(fell, 0, self.still + 1)
        self.stopped |= good
        if self.plateau is not None:
            self.stopped |= self.still >= self.plateau
        return bool(self.stopped.all())

    @torch.no_grad()
    def restore(self) -> None:
        """Put the kept values back into the parameters."""
        for kept, value in zip(self.kept, self.parameters, strict=True):
            value.copy_(kept)
