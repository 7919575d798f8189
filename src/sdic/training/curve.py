"""curve.csv: one row of validation measures for each step that was validated."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdic.errors import TrainingError
from sdic.files import write_whole


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a run's curve.csv; none where there is no file yet.

    Raises:
        TrainingError: it cannot be read, or has no steps in it.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["step"])
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise TrainingError(f"{path} is no curve of a run; restore or delete it.") from error
    return rows


def write_curve(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Replace curve.csv by these rows, whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode(), TrainingError)
