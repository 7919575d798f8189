"""A method with some steps of optimisation after it, as a method of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sdic.editing.direction import Edit
from sdic.methods.base import Inversion, Inverter, Progress
from sdic.methods.optimisation import Optimisation, OptimisationSettings

_SPEC = re.compile(r"(?P<name>.+)\+(?P<steps>\d+)")


@dataclass(frozen=True)
class RefinedSettings:
    """Settings of `Refined`.

    Attributes:
        method: those of the method, a frozen dataclass, or None if it has none.
        descent: those of the refinement.
        steps: of descent.
    """

    method: Any
    descent: OptimisationSettings
    steps: int


class Refined(Inverter):
    """Another method, whose F and w+ are then refined by gradient descent.

    Args:
        inverter: the method.
        optimisation: refines its inversions, see `methods.refiner`.
        steps: of descent.
    """

    name = "refined"
    iterates = True

    def __init__(self, inverter: Inverter, optimisation: Optimisation, steps: int) -> None:
        super().__init__(inverter.generator)
        self.inverter, self.optimisation, self.steps = inverter, optimisation, steps

    @property
    def settings(self) -> RefinedSettings:
        """Settings of the method and of its refinement."""
        return RefinedSettings(self.inverter.settings, self.optimisation.settings, self.steps)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Those of the method."""
        return self.inverter.networks

    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        inversion = self.inverter._invert(images, None)
        return self.optimisation.refine(inversion, images, self.steps, progress)

    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """See `Inverter.synthesize`; the method's own."""
        return self.inverter.synthesize(inversion, edit, size)


def parse_method(spec: str, steps: int = 0) -> tuple[str, int]:
    """A method's name and its steps of refinement, from NAME or NAME+STEPS.

    Args:
        spec: e.g. "sdic" or "sdic+50".
        steps: those of a method that names none.
    """
    match = _SPEC.fullmatch(spec)
    return (match["name"], int(match["steps"])) if match else (spec, steps)
