"""`sdic edit`: photos, or inversions of photos, to edited photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic import images
from sdic.cli import options
from sdic.cli.batch import run_batch
from sdic.cli.outputs import check_targets, unique_names
from sdic.cli.progress import DescentProgress
from sdic.editing.direction import Edit
from sdic.editor import PHOTO, Editor
from sdic.errors import InputError
from sdic.images import Photo
from sdic.methods.base import Inversion
from sdic.methods.storage import load_inversion


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
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    crop: Annotated[bool, typer.Option("--crop", help="Write the edited crop alone.")] = False,
    detail: Annotated[
        bool, typer.Option(help="Keep the photo's fine structure; paste the change only.")
    ] = True,
    photo: options.OnePhoto = None,
    release: options.Release = None,
    suffix: Annotated[str, typer.Option(help="Format of the results: png, jpg, webp, ...")] = "png",
    *,
    engine: options.Engine,
    as_json: options.AsJson = False,
) -> None:
    """Edit faces and put them back into their photos.

    Examples: sdic edit me.jpg -e smile=2 --out edited; sdic edit me.sdic.safetensors --age 15
    -e yaw=-1 --out edited
    """
    which = options.parse_face(face)
    texts = options.all_edits(edits, age, smile, yaw)
    strengths = options.parse_strengths(texts, engine.generator)
    photos, inversions = options.list_sources(sources)
    paths = photos + inversions
    names = unique_names(paths)
    editor = options.make_editor(engine)
    if release is not None:
        editor.inverter.release = release
    change = editor.make_edit(strengths)

    def work(path: Path) -> dict[str, object]:
        target = out / f"{names[path]}.{suffix.lstrip('.')}"
        check_targets([target], photos, overwrite=True)
        if path in inversions:
            options.check_regular(path)
            inversion = load_inversion(path)
            base = None if crop else photo_of(inversion, path, photo)
            if base is not None and base.path is not None:
                check_targets([target], [base.path], overwrite=True)
            _write(editor, [inversion], change, base, target, detail)
        else:
            base = images.read(path)
            made = []
            for place in editor.find(base, which, aligned):
                with DescentProgress() as progress:
                    made.append(editor.invert_place(base, place, progress))
            _write(editor, made, change, None if crop else base, target, detail)
        return {"edited": str(target)}

    run_batch(paths, work, as_json)


def _write(
    editor: Editor,
    inversions: list[Inversion],
    change: Edit,
    photo: Photo | None,
    target: Path,
    detail: bool,
) -> None:
    """All faces pasted into the photo; without a photo, each crop in a file of its own."""
    if photo is not None:
        for inversion in inversions:
            photo = editor.paste(inversion, photo, change, detail=detail)
        images.write(target, photo)
        return
    for index, inversion in enumerate(inversions):
        name = target.stem + (f"_{index}" if len(inversions) > 1 else "")
        images.write(target.with_name(name + target.suffix), editor.render(inversion, change))


def photo_of(inversion: Inversion, path: Path, given: Path | None) -> Photo:
    """The photo that an inversion was made of, from the given place or the one it names.

    Raises:
        InputError: there is no such file.
    """
    place = given or (Path(inversion.metadata[PHOTO]) if PHOTO in inversion.metadata else None)
    if place is None or not place.is_file():
        where = f"is no longer at {place}" if place else "is not named in it"
        raise InputError(
            f"The photo of the inversion {path} {where}; name it with --photo, "
            "or write the crop alone with --crop."
        )
    options.check_regular(place)
    return images.read(place)
