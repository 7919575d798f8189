"""`sdic demo`: the main job on a sample photo, as one contact sheet."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from sdic import alignment, images, methods
from sdic.cli import options
from sdic.cli.progress import DescentProgress
from sdic.editing import library
from sdic.editing.direction import Edit
from sdic.editor import Editor, place_of
from sdic.errors import InputError
from sdic.images import Photo, Pixels

TILE = 384  # side of a picture of the sheet in pixels
CAPTION = 34
# Directions of the library, with a share of their useful range: -1 is its lower end, 1 its upper.
EDITS = (("smile", -0.8), ("age", 1.0), ("age", -0.8), ("yaw", 0.35))


def demo(
    out: Annotated[Path, typer.Option(help="The contact sheet to write.")] = Path("sdic-demo.png"),
    photo: Annotated[
        Path | None, typer.Option(help="A photo of yours; default: the astronaut of scikit-image.")
    ] = None,
    method: options.MethodName = methods.DEFAULT,
    refine: options.Refine = 0,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
) -> None:
    """Invert a sample photo, edit it four times, put it back: one picture of all of it.

    Example: sdic demo --out sheet.png
    """
    editor = options.make_editor(options.Engine(method, refine, device=device, backend=backend))
    source = _sample() if photo is None else images.read(photo)
    with DescentProgress() as progress:
        inversion = editor.invert(source, progress=progress)
    place = place_of(inversion)
    crop = alignment.crop(source.rgb, place, 1024)
    edits = [_edit(editor, name, share) for name, share in EDITS]
    first = edits[0][1]
    pasted = editor.paste(inversion, source, first).rgb
    before = [("photo", source.rgb), ("its face", crop), ("inversion", editor.render(inversion))]
    rows = [
        [*before, (f"{edits[0][0]}, pasted back", pasted)],
        [(name, editor.render(inversion, edit)) for name, edit in edits],
    ]
    images.write(out, _sheet(rows))
    typer.echo(f"{out}: photo, face, inversion and edits")


def _sample() -> Photo:
    try:
        data = import_module("skimage.data")
    except ModuleNotFoundError as error:
        raise InputError(
            "The sample photo comes with scikit-image; install it with "
            "`pip install 'sdic[sample]'`, or give a photo with --photo."
        ) from error
    return Photo(np.asarray(data.astronaut()))


def _edit(editor: Editor, name: str, share: float) -> tuple[str, Edit]:
    low, high = library.get(name, editor.inverter.generator.name).strength_range
    strength = round(share * high if share > 0 else -share * low, 2)
    return f"{name} {strength:+g}", editor.make_edit({name: strength})


def _sheet(rows: list[list[tuple[str, Pixels]]]) -> Pixels:
    """Rows of captioned pictures, each scaled into a square tile."""
    width = TILE * max(len(row) for row in rows)
    sheet = Image.new("RGB", (width, (TILE + CAPTION) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for i, row in enumerate(rows):
        for j, (caption, pixels) in enumerate(row):
            picture = Image.fromarray(pixels)
            picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            left, top = j * TILE, i * (TILE + CAPTION)
            sheet.paste(picture, (left + (TILE - picture.width) // 2, top))
            draw.text((left + 8, top + TILE + 4), caption, fill="black", font=font)
    return np.asarray(sheet)
