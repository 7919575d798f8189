"""Options that several verbs share, and the editor that they describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic import editor
from sdic.editing import library, units
from sdic.editor import Editor
from sdic.errors import InputError

MethodName = Annotated[
    str, typer.Option("--method", "-m", help="Inversion method; `sdic info` lists them.")
]
GeneratorName = Annotated[str, typer.Option("--generator", help="mobile or stylegan2.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Published StyleGAN2, e4e or SDIC file, for stylegan2.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Backend = Annotated[str, typer.Option(help="auto, eager, compiled or openvino.")]
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
        help="Change of features at which compensation gives way to the edit; 0 is the paper's rule"
        " (eq. 6). Default: the method's own.",
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
