"""`sdic edit`: photos, or inversions of photos, to edited photos."""

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
from sdic.methods.storage import SUFFIX


@app.command()
def edit(
    sources: Annotated[
        list[Path], typer.Argument(help=f"Photos, folders of photos, or inversions (*{SUFFIX}).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the edited photos.")],
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", "-e", help="NAME=STRENGTH; `sdic directions list` shows names."),
    ] = None,
    age: options.Age = None,
    smile: options.Smile = None,
    yaw: options.Yaw = None,
    method: options.MethodName = None,
    refine: options.Refine = 0,
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    crop: Annotated[bool, typer.Option("--crop", help="Write the edited crop alone.")] = False,
    detail: options.Detail = True,
    photo: options.PhotoOfInversion = None,
    photos: options.PhotosOfInversions = Path(),
    release: options.Release = None,
    suffix: Annotated[str, typer.Option(help="Format of the results: png, jpg, webp, ...")] = "png",
    overwrite: options.Overwrite = False,
    generator: options.GeneratorName = None,
    checkpoint: options.Checkpoint = None,
    detector: options.Detector = "mtcnn",
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Edit faces and put them back into their photos.

    Examples: sdic edit me.jpg -e smile=2 --out edited; sdic edit me.sdic.safetensors --age 15
    -e yaw=-1 --out edited
    """
    which = options.parse_face(face)
    amounts = options.parse_amounts(options.all_edits(edits, age, smile, yaw))
    given = Sources.of(sources, photo, photos)
    outputs = Outputs(
        out,
        given.paths,
        [f".{suffix.lstrip('.')}"],
        numbered=given.photos if crop and which == "all" else (),
        protected=given.photos_of_inversions(),
        overwrite=overwrite,
    )
    engine = Engine(method, generator, checkpoint, device, backend, detector, refine, release)
    if given.photos:
        engine.editor().make_edit(amounts)  # what is wrong with the options is told at once

    def work(path: Path) -> dict[str, object]:
        session = given.open(path, engine, which, aligned, crop)
        change = engine.of(session).make_edit(amounts)
        if not crop:
            pasted = session.paste(change, detail=detail)
            return {"edited": str(images.write(outputs.target(path), pasted))}
        written = [
            str(images.write(outputs.target(path, index), one.render(change), like=session.photo))
            for index, one in enumerate(session)
        ]
        return {"edited": written if which == "all" else written[0]}

    run_batch(given.paths, work, as_json)
