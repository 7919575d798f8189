"""Options that several verbs share, and the editor that they describe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sdic import editor
from sdic.editing import library, units
from sdic.editor import Editor
from sdic.errors import InputError

if TYPE_CHECKING:
    from sdic.alignment import Which

MethodName = Annotated[
    str, typer.Option("--method", "-m", help="Inversion method; `sdic info` lists them.")
]
GeneratorName = Annotated[str, typer.Option("--generator", help="mobile or stylegan2.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="A file of `sdic train export`; or a published one, for stylegan2."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Backend = Annotated[str, typer.Option(help="auto, eager, compiled, openvino or openvino-bf16.")]
Detector = Annotated[str, typer.Option(help="mtcnn, or dlib (frontal faces only).")]
Refine = Annotated[
    int, typer.Option(min=0, help="Optimisation steps on top of the method's own inversion.")
]
Face = Annotated[str, typer.Option(help="largest, all, or an index: 0 is the largest face.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The photos are FFHQ crops already.")]
Release = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Change of features at which compensation gives way to the edit: smaller changes more "
        "and keeps less of the person; 0 never gives way. Default: the method's own.",
    ),
]
Age = Annotated[float | None, typer.Option(help="Years: 15 is 15 older. Short for -e age=15y.")]
Smile = Annotated[
    float | None,
    typer.Option(min=-1, max=1, help="-1 (serious) to 1 (the most). Short for -e smile=100%."),
]
Yaw = Annotated[float | None, typer.Option(help="Degrees to the side. Short for -e yaw=20deg.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there already, never a photo.")
]
Strip = Annotated[
    str | None,
    typer.Option(
        metavar="location|all",
        help="Leave the place (GPS), or all that describes the photo, out of the results.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line for each photo.")]


def make_editor(
    method: str,
    generator: str,
    checkpoint: Path | None,
    device: str,
    backend: str,
    detector: str,
    refine: int,
) -> Editor:
    """The editor that the options describe.

    Raises:
        SdicError: see `editor.load`.
    """
    return editor.load(
        method,
        generator,
        checkpoint=checkpoint,
        backend=backend,
        device=device,
        detector=detector,
        refine=refine,
    )


def parse_face(text: str) -> Which:
    """The value of --face: "largest", "all" or an index from 0 on.

    Raises:
        InputError: it is none of these.
    """
    if text == "largest":
        return "largest"
    if text == "all":
        return "all"
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    raise InputError(f"The face is '{text}'; expected largest, all, or an index from 0 on.")


def parse_strip(text: str | None) -> Literal["location", "all"] | None:
    """The value of --strip: "location", "all", or None where it is not given.

    Raises:
        InputError: it is none of these.
    """
    if text is None:
        return None
    if text == "location":
        return "location"
    if text == "all":
        return "all"
    raise InputError(f"--strip is '{text}'; expected location or all.")


def all_edits(
    edits: list[str] | None, age: float | None, smile: float | None, yaw: float | None
) -> list[str]:
    """`NAME=VALUE` texts of all edits, with those that have an option of their own.

    Raises:
        InputError: there are none.
    """
    texts = list(edits or ())
    texts += [f"age={age:+g}y"] if age is not None else []
    texts += [f"smile={100 * smile:+g}%"] if smile is not None else []
    texts += [f"yaw={yaw:+g}deg"] if yaw is not None else []
    if not texts:
        raise InputError(
            "There is nothing to edit; say what with --edit NAME=STRENGTH, --age, --smile or "
            "--yaw. `sdic directions list` shows the names."
        )
    return texts


def parse_strengths(texts: list[str], generator: str = "mobile") -> dict[str, float]:
    """`NAME=STRENGTH` texts as a dictionary, e.g. smile=2, age=+15y or yaw=80%.

    Units are those of `units.to_strength`; for them the direction of this generator is looked up.

    Raises:
        InputError: a text has another form, a direction is named twice, or it is not known or not
            calibrated in the unit.
    """
    strengths: dict[str, float] = {}
    for text in texts:
        name, value = split_edit(text)
        if name in strengths:
            raise InputError(f"The direction '{name}' is given twice; give it once.")
        strengths[name] = parse_strength(name, value, generator)
    return strengths


def split_edit(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as name and value.

    Raises:
        InputError: the text has another form, or the value has no digit.
    """
    name, _, value = text.rpartition("=")
    if not name or not (_is_number(value) or any(map(str.isdigit, value))):
        raise InputError(
            f"The edit is '{text}'; expected NAME=STRENGTH, e.g. smile=2, age=+15y or yaw=80%."
        )
    return name, value


def parse_strength(name: str, value: str, generator: str) -> float:
    """The strength that a text stands for; only for a unit is the direction looked up."""
    if _is_number(value):
        return float(value)
    return units.to_strength(library.get(name, generator), value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
