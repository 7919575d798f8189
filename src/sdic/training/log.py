"""What a run says: TensorBoard scalars and picture grids, curve.csv, and lines for the terminal."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sdic.errors import TrainingError
from sdic.files import write_whole
from sdic.images import to_uint8
from sdic.training.curve import read_curve, write_curve

LINE_SECONDS = 30.0  # between two lines when the output is not a terminal


class RunLog:
    """The records of one run; a resumed run drops what was recorded after its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.curve = folder / "curve.csv"
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        rows = [row for row in read_curve(self.curve) if int(row["step"]) <= step]
        if self.curve.exists():
            write_curve(self.curve, rows)
        self.last_validated = max((int(row["step"]) for row in rows), default=-1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars by their tag."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Record the means of a validation in TensorBoard and as a row of curve.csv."""
        self.scalars(step, {f"validation/{name}": value for name, value in values.items()})
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()}
        write_curve(self.curve, [*read_curve(self.curve), row])
        self.last_validated = step

    def grid(self, step: int, images: Tensor) -> None:
        """Record pictures [R,K,3,H,W] in about [-1,1] as one grid, and as grid.png in the run."""
        rows, columns, _, height, width = images.shape
        grid = images.permute(2, 0, 3, 1, 4).reshape(1, 3, rows * height, columns * width)
        picture = to_uint8(grid)[0]
        self._writer.add_image("grid", picture, step, dataformats="HWC")
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "PNG")
        write_whole(self.folder / "grid.png", png.getvalue(), TrainingError)

    def close(self) -> None:
        """Flush everything to the disk."""
        self._writer.close()


class Reporter:
    """One line that is kept up to date on a terminal, or a line every half minute elsewhere."""

    def __init__(self, console: Console, steps: int, step: int, unit: str = "step") -> None:
        self._console = console
        self._unit = unit
        self._steps = steps
        self._first, self._began = step, time.monotonic()
        self._said = self._began
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn(unit + " {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar = self._progress.add_task("", total=steps, completed=step)
            self._progress.start()

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Show the losses after `step` steps, or of what else is counted."""
        now = time.monotonic()
        if self._progress is not None:
            self._progress.update(self._bar, completed=step, description=_short(losses))
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            seconds = (now - self._began) / (step - self._first)
            self._console.print(
                f"{self._unit} {step}/{self._steps}  {_short(losses)}  "
                f"{seconds:.2f} s/{self._unit}",
                highlight=False,
            )

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        if self._progress is not None:
            self._progress.stop()


def _short(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
