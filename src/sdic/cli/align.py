"""`sdic align`: cut the faces of photos out as FFHQ does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic import alignment, images
from sdic.cli.app import app
from sdic.cli.batch import run_batch
from sdic.errors import InputError
from sdic.files import write_json
from sdic.methods.storage import SUFFIX
from sdic.recognition.detection import load_detector


@app.command()
def align(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the crops.")],
    face: Annotated[
        str, typer.Option(help="largest, all, or an index: 0 is the largest face, 1 the next.")
    ] = "largest",
    size: Annotated[int, typer.Option(min=16, max=4096, help="Side of a crop in pixels.")] = 1024,
    detector: Annotated[str, typer.Option(help="mtcnn, or dlib (frontal faces only).")] = "mtcnn",
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels are refused.")
    ] = images.DEFAULT_MAX_PIXELS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line a photo.")] = False,
) -> None:
    """Cut the faces of photos out as FFHQ does: NAME.png, and NAME.json that says where it lay."""
    which = parse_face(face)
    paths = images.list_images(photos)
    names = unique_names(paths)
    found = load_detector(detector)

    def work(path: Path) -> dict[str, object]:
        photo = images.read(path, max_pixels)
        places = alignment.find_places(photo.rgb, which, found)
        crops = []
        for index, place in enumerate(places):
            suffix = f"_{index}" if which == "all" else ""
            target = out / f"{names[path]}{suffix}.png"
            check_not_source(target, paths)
            cut = alignment.crop(photo.rgb, place, size)
            images.write(target, cut, edited=False, like=photo)
            description = {"photo": str(path), **place.to_dict()}
            write_json(target.with_suffix(".json"), description)
            crops.append({"crop": str(target), **place.to_dict()})
        if as_json:
            return {"crops": crops}
        return {"crops": [crop["crop"] for crop in crops]}

    run_batch(paths, work, as_json)


def parse_face(text: str) -> alignment.Which:
    """The value of --face: "largest", "all" or an index from 0 on.

    Raises:
        InputError: it is none of these.
    """
    if text == "largest":
        return "largest"
    if text == "all":
        return "all"
    if text.isdecimal():
        return int(text)
    raise InputError(f"The face is '{text}'; expected largest, all, or an index from 0 on.")


def unique_names(paths: list[Path]) -> dict[Path, str]:
    """A name without suffix for each file: its own, with a number where two would be the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        own = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
        name, number = own, 1
        while name in taken:
            number += 1
            name = f"{own}-{number}"
        taken.add(name)
        names[path] = name
    return names


def check_not_source(target: Path, sources: list[Path]) -> None:
    """Raise InputError if a file to be written is one of the photos that are read."""
    if target.exists() and any(target.samefile(source) for source in sources):
        raise InputError(f"Writing {target} would replace the photo; choose another folder.")
