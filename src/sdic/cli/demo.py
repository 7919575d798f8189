"""`sdic demo`: the main job on a sample photo, as one contact sheet."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from sdic.cli import options
from sdic.cli.outputs import check_targets
from sdic.errors import InputError

if TYPE_CHECKING:
    from sdic.editing.direction import Edit
    from sdic.editor import Editor
    from sdic.images import Photo, Pixels

OUT = Path("sdic-demo.png")  # our own name, so that a second demo replaces the first
TILE = 384  # side of a picture of the sheet in pixels
CAPTION = 34
# Directions of the library, with a share of their useful range: -1 is its lower end, 1 its upper.
EDITS = (("smile", -0.8), ("age", 1.0), ("age", -0.8), ("yaw", 0.35))


def demo(
    out: Annotated[Path, typer.Option(help="The contact sheet to write.")] = OUT,
    photo: Annotated[
        Path | None, typer.Option(help="A photo of yours; default: the astronaut of scikit-image.")
    ] = None,
    method: options.MethodName = None,
    refine: options.Refine = 0,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    overwrite: options.Overwrite = False,
) -> None:
    """Invert a sample photo, edit it four times, put it back: one picture of all of it.

    Example: sdic demo --out sheet.png
    """
    from sdic import images
    from sdic.cli.faces import Editors
    from sdic.cli.progress import DescentProgress

    check_targets([out], [] if photo is None else [photo], overwrite or out == OUT)
    editor = Editors(options.Engine(method, refine, device=device, backend=backend)).editor()
    source = _sample() if photo is None else images.read(photo)
    with DescentProgress() as progress:
        face = editor.open(source, progress=progress)[0]
    edits = [_edit(editor, name, share) for name, share in EDITS]
    caption, first = edits[0]
    before = [("photo", source.rgb), ("its face", face.crop()), ("inversion", face.render())]
    rows = [
        [*before, (f"{caption}, pasted back", face.paste(first).rgb)],
        [(name, face.render(edit)) for name, edit in edits],
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
    from sdic.images import Photo

    return Photo(np.asarray(data.astronaut()))


def _edit(editor: Editor, name: str, share: float) -> tuple[str, Edit]:
    from sdic.editing import library

    low, high = library.get(name, editor.inverter.generator).strength_range
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
