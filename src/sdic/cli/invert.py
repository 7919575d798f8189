"""`sdic invert`: photos to inversions that every later edit starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic import alignment, images
from sdic.cli import options
from sdic.cli.batch import run_batch
from sdic.cli.outputs import check_targets, unique_names
from sdic.cli.progress import DescentProgress
from sdic.methods.base import INVERSION_SIZE
from sdic.methods.storage import SUFFIX, save_inversion
from sdic.metrics.pixels import psnr


@options.expand
def invert(
    photos: options.Photos,
    out: Annotated[Path, typer.Option(help="Folder for the inversions.")],
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    *,
    engine: options.Engine,
    as_json: options.AsJson = False,
) -> None:
    """Invert the faces of photos: NAME.sdic.safetensors, and NAME.png to look at.

    Example: sdic invert me.jpg --out inversions
    """
    which = options.parse_face(face)
    paths = options.list_photos(photos)
    names = unique_names(paths)
    editor = options.make_editor(engine)

    def work(path: Path) -> dict[str, object]:
        photo = images.read(path)
        written, fidelity = [], []
        for index, place in enumerate(editor.find(photo, which, aligned)):
            name = names[path] + (f"_{index}" if which == "all" else "")
            picture, target = out / f"{name}.png", out / f"{name}{SUFFIX}"
            check_targets([picture], paths, overwrite=True)
            with DescentProgress() as progress:
                inversion = editor.invert_place(photo, place, progress)
            images.write(picture, editor.render(inversion), generated=True)
            save_inversion(inversion, target)
            written.append(str(target))
            crop = images.to_tensor(alignment.crop(photo.rgb, place, INVERSION_SIZE))
            reconstruction = inversion.reconstruction.cpu().clamp(-1, 1)
            fidelity.append(round(psnr(reconstruction, crop).item(), 2))
        return {"inversions": written, "psnr_db": fidelity}

    run_batch(paths, work, as_json)
