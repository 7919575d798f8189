"""Strips: what a direction does, seen at several strengths side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sdic.editing.direction import Direction, Edit
from sdic.editing.samples import to_pictures
from sdic.editing.units import to_strength
from sdic.errors import InputError
from sdic.generators.base import Generator

Synthesis = Callable[[Edit | None], Tensor]  # images [N,3,s,s] of N samples, edited if asked for


def strengths_over(direction: Direction, count: int = 5) -> list[float]:
    """Evenly spaced strengths over the direction's range; 0 is among them, exactly.

    Raises:
        InputError: fewer than two are asked for.
    """
    if count < 2:
        raise InputError(f"A strip of {count} strengths was asked for; expected at least 2.")
    low, high = direction.strength_range
    steps = [low + (high - low) * k / (count - 1) for k in range(count)]
    nearest = min(range(count), key=lambda k: abs(steps[k]))
    steps[nearest] = 0.0
    return steps


def strip(synthesis: Synthesis, direction: Direction, strengths: Sequence[float]) -> Image.Image:
    """A row for each sample, a column for each strength, the strengths written above.

    Args:
        synthesis: gives the images; `of_latents`, or an inverter's `synthesize` on an inversion.
        direction: the edit.
        strengths: one for each column.

    Raises:
        InputError: no strength is given, or one that `units.to_strength` refuses.
    """
    if not strengths:
        raise InputError("A strip needs at least one strength.")
    strengths = [to_strength(direction, strength) for strength in strengths]
    columns = [to_pictures(synthesis(Edit.of(direction, strength))) for strength in strengths]
    side = columns[0][0].width
    header = max(16, side // 12)
    sheet = Image.new("RGB", (side * len(columns), header + side * len(columns[0])), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=header - 4)
    for x, (strength, pictures) in enumerate(zip(strengths, columns, strict=True)):
        label = f"{direction.name} {strength:+.3g}" if strength else "0"
        draw.text((x * side + side // 2, header // 2), label, "black", font, anchor="mm")
        for y, picture in enumerate(pictures):
            sheet.paste(picture, (x * side, header + y * side))
    return sheet


def of_latents(generator: Generator, latents: Tensor, size: int = 256) -> Synthesis:
    """Synthesis of plain latents w+ [N,S,512], one image at a time."""

    @torch.no_grad()
    def synthesis(edit: Edit | None) -> Tensor:
        edited = latents if edit is None else edit.apply(latents)
        return torch.cat([generator(sample[None], size=size) for sample in edited])

    return synthesis
