"""`sdic invert`: photos to inversions that every later edit starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdic.cli import options
from sdic.cli.outputs import INVERSION_SUFFIX, Outputs
from sdic.errors import InputError

if TYPE_CHECKING:
    from sdic.session import FaceSession


@options.expand
def invert(
    photos: options.Photos,
    out: Annotated[Path, typer.Option(help="Folder for the inversions.")],
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    overwrite: options.Overwrite = False,
    *,
    engine: options.Engine,
    as_json: options.AsJson = False,
) -> None:
    """Invert the faces of photos: NAME.sdic.safetensors, and NAME.png to look at.

    Example: sdic invert me.jpg --out inversions
    """
    from sdic import images
    from sdic.cli.batch import run_batch
    from sdic.cli.faces import Editors, Sources
    from sdic.methods.storage import save_inversion

    which = options.parse_face(face)
    given = Sources.of(photos, None, Path())
    if given.inversions:
        raise InputError(f"{given.inversions[0]} is an inversion already; give photos.")
    numbered = given.photos if which == "all" else ()
    outputs = Outputs(
        out, given.paths, [INVERSION_SUFFIX, ".png"], numbered=numbered, overwrite=overwrite
    )
    editors = Editors(engine)
    editors.editor()  # what is wrong with the options is told at once

    def work(path: Path) -> dict[str, object]:
        written, fidelity = [], []
        for index, one in enumerate(given.open(path, editors, which, aligned, crop=False)):
            images.write(outputs.target(path, index, ".png"), one.render(), generated=True)
            target = outputs.target(path, index)
            save_inversion(one.inversion, target)
            written.append(str(target))
            fidelity.append(round(_psnr(one), 2))
        return {"inversions": written, "psnr_db": fidelity}

    run_batch(given.paths, work, as_json)


def _psnr(session: FaceSession) -> float:
    """Of the reconstruction, against the crop of the photo."""
    from sdic import images
    from sdic.methods.base import INVERSION_SIZE
    from sdic.metrics.pixels import psnr

    crop = images.to_tensor(session.crop(INVERSION_SIZE))
    return float(psnr(session.inversion.reconstruction.cpu().clamp(-1, 1), crop))
