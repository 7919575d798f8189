"""What a file of directions says about them, without their vectors and without loading PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sdic.errors import InputError
from sdic.files import check_readable, read_metadata

FORMAT = "sdic-directions-1"
DATA = Path(__file__).parent / "data"
# What reading a table that does not fit raises; arithmetic: an integer that no float holds.
DAMAGES = (
    ArithmeticError,
    AttributeError,
    InputError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Description:
    """All of a direction but its vector; the fields are those of `direction.Direction`.

    Attributes:
        target: of a direction with GANSpace's absolute rule.
    """

    name: str
    generator: str
    rows: tuple[int, ...] | None
    strength_range: tuple[float, float]
    source: str
    notes: dict[str, str] = field(default_factory=dict)
    target: float | None = None


def library_file(generator: str = "mobile") -> Path:
    """The file of the directions that ship for a generator; it is not there where none do."""
    return DATA / f"{generator}.safetensors"


def read_descriptions(path: Path) -> dict[str, Description]:
    """The directions in a file, by name, in its order.

    Raises:
        InputError: the file is missing, may not be read, or is no file of directions.
    """
    check_readable(path, "file of directions")
    try:
        metadata = read_metadata(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}).") from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} is not a file of directions; expected the format '{FORMAT}' in its metadata. "
            "Vectors of other projects come in with `sdic directions import`."
        )
    try:
        table = json.loads(metadata["directions"])
        return {name: _describe(name, one, metadata["generator"]) for name, one in table.items()}
    except DAMAGES as error:
        raise InputError(
            f"The table of directions in {path} is damaged ({str(error)[:100]}); make it again."
        ) from error


def _describe(name: str, entry: Mapping[str, Any], generator: str) -> Description:
    low, high = entry["range"]
    rows = entry["rows"]
    if rows is not None and not all(type(row) is int for row in rows):
        raise TypeError(f"'{name}' has rows that are no numbers")
    return Description(
        name=name,
        generator=generator,
        rows=None if rows is None else tuple(rows),
        strength_range=(float(low), float(high)),
        source=str(entry["source"]),
        notes={str(key): str(value) for key, value in entry["notes"].items()},
        target=float(entry["target"]) if "target" in entry else None,
    )
