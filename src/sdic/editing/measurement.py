"""What a direction does to the scores, measured on samples: its effect and its side effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.editing.samples import SIZE, Report, Scorer
from sdic.editing.units import to_strength
from sdic.errors import InputError
from sdic.generators.base import Generator


@torch.no_grad()
def measure(
    generator: Generator,
    direction: Direction,
    latents: Tensor,
    strengths: Sequence[float],
    scorers: Mapping[str, Scorer],
    report: Report | None = None,
) -> dict[str, Tensor]:
    """Mean change of each score over the samples, for each strength.

    Args:
        generator: that the direction was made for.
        direction: what is measured.
        latents: w+ [N,S,512] of the samples.
        strengths: T strengths.
        scorers: by name, see `editing.scorers`; images are given at 256x256, clamped.
        report: called after each strength.

    Returns:
        For each scorer [T], in its own unit: mean of the score after less before the edit.

    Raises:
        InputError: there is no sample, strength or scorer, or a strength that
            `units.to_strength` refuses.
    """
    if not len(latents) or not strengths or not scorers:
        raise InputError("Measuring needs at least one sample, one strength and one scorer.")
    strengths = [to_strength(direction, strength) for strength in strengths]
    before = _score(generator, latents, scorers)
    changes: dict[str, list[Tensor]] = {name: [] for name in scorers}
    for done, strength in enumerate(strengths, start=1):
        after = _score(generator, direction.apply(latents, strength), scorers)
        for name in scorers:
            changes[name].append((after[name] - before[name]).mean())
        if report is not None:
            report(done * len(latents), len(strengths) * len(latents))
    return {name: torch.stack(values) for name, values in changes.items()}


def _score(
    generator: Generator, latents: Tensor, scorers: Mapping[str, Scorer]
) -> dict[str, Tensor]:
    """Scores [N] by name; one image at a time, as memory is what limits a laptop."""
    found: dict[str, list[Tensor]] = {name: [] for name in scorers}
    for sample in latents:
        image = generator(sample[None], size=SIZE).clamp(-1, 1).cpu()  # where the scorers are
        for name, scorer in scorers.items():
            found[name].append(scorer(image).float().cpu())
    return {name: torch.cat(values) for name, values in found.items()}
