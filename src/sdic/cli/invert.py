"""`sdic invert`: photos to inversions that every later edit starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic import images
from sdic.cli import options
from sdic.cli.app import app
from sdic.cli.batch import run_batch
from sdic.cli.faces import Engine, Sources
from sdic.cli.outputs import Outputs
from sdic.errors import InputError
from sdic.methods.base import INVERSION_SIZE
from sdic.methods.storage import SUFFIX, save_inversion
from sdic.metrics.pixels import psnr
from sdic.session import FaceSession


@app.command()
def invert(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the inversions.")],
    method: options.MethodName = None,
    refine: options.Refine = 0,
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    overwrite: options.Overwrite = False,
    generator: options.GeneratorName = None,
    checkpoint: options.Checkpoint = None,
    detector: options.Detector = "mtcnn",
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Invert the faces of photos: NAME.sdic.safetensors, and NAME.png to look at.

    Example: sdic invert me.jpg --out inversions
    """
    which = options.parse_face(face)
    given = Sources.of(photos, None, Path())
    if given.inversions:
        raise InputError(f"{given.inversions[0]} is an inversion already; give photos.")
    numbered = given.photos if which == "all" else ()
    outputs = Outputs(out, given.paths, [SUFFIX, ".png"], numbered=numbered, overwrite=overwrite)
    engine = Engine(method, generator, checkpoint, device, backend, detector, refine)
    engine.editor()  # what is wrong with the options is told at once

    def work(path: Path) -> dict[str, object]:
        written, fidelity = [], []
        for index, one in enumerate(given.open(path, engine, which, aligned, crop=False)):
            images.write(outputs.target(path, index, ".png"), one.render(), generated=True)
            target = outputs.target(path, index)
            save_inversion(one.inversion, target)
            written.append(str(target))
            fidelity.append(round(_psnr(one), 2))
        return {"inversions": written, "psnr_db": fidelity}

    run_batch(given.paths, work, as_json)


def _psnr(session: FaceSession) -> float:
    """Of the reconstruction, against the crop of the photo."""
    crop = images.to_tensor(session.crop(INVERSION_SIZE))
    return float(psnr(session.inversion.reconstruction.cpu().clamp(-1, 1), crop))
