"""`sdic edit`: photos, or inversions of photos, to edited photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdic.cli import options
from sdic.cli.outputs import Outputs

if TYPE_CHECKING:
    from sdic.images import Photo, Pixels


@options.expand
def edit(
    sources: options.Sources,
    out: Annotated[Path, typer.Option(help="Folder for the edited photos.")],
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", "-e", help="NAME=STRENGTH; `sdic directions list` shows names."),
    ] = None,
    age: options.Age = None,
    smile: options.Smile = None,
    yaw: options.Yaw = None,
    text: options.Text = None,
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    crop: Annotated[bool, typer.Option("--crop", help="Write the edited crop alone.")] = False,
    detail: options.Detail = True,
    photo: options.OnePhoto = None,
    photos: options.FolderOfPhotos = Path(),
    release: options.Release = None,
    suffix: Annotated[str, typer.Option(help="Format of the results: png, jpg, webp, ...")] = "png",
    strip: options.Strip = None,
    overwrite: options.Overwrite = False,
    *,
    engine: options.Engine,
    as_json: options.AsJson = False,
) -> None:
    """Edit faces and put them back into their photos.

    Examples: sdic edit me.jpg -e smile=2 --out edited; sdic edit me.sdic.safetensors --age 15
    -e yaw=-1 --out edited; sdic edit me.jpg --text "ten years older, no glasses" --out edited
    """
    from sdic import images
    from sdic.cli.batch import run_batch
    from sdic.cli.faces import Editors, Sources

    which, left_out = options.parse_face(face), options.parse_strip(strip) or "none"
    amounts = options.parse_amounts(options.all_edits(edits, age, smile, yaw, text))
    given = Sources.of(sources, photo, photos)
    outputs = Outputs(
        out,
        given.paths,
        [options.picture_suffix(suffix)],
        numbered=given.photos if crop and which == "all" else (),
        protected=given.photos_of_inversions(),
        overwrite=overwrite,
    )
    editors = Editors(engine, release)
    if given.photos:
        editors.editor().make_edit(amounts)  # what is wrong with the options is told at once

    def work(path: Path) -> dict[str, object]:
        session = given.open(path, editors, which, aligned, crop)
        change = editors.of(session).make_edit(amounts)
        made: list[Photo | Pixels] = [one.render(change) for one in session] if crop else []
        names = [
            str(images.write(outputs.target(path, i), one, like=session.photo, strip=left_out))
            for i, one in enumerate(made or [session.paste(change, detail=detail)])
        ]
        return {"edited": names if crop and which == "all" else names[0]}

    run_batch(given.paths, work, as_json)
