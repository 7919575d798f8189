"""`sdic align`: cut the faces of photos out as FFHQ does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdic.cli import options
from sdic.cli.batch import run_batch
from sdic.cli.outputs import Outputs


def align(
    photos: options.Photos,
    out: Annotated[Path, typer.Option(help="Folder for the crops.")],
    face: options.Face = "largest",
    size: Annotated[int, typer.Option(min=16, max=4096, help="Side of a crop in pixels.")] = 1024,
    detector: options.Detector = "mtcnn",
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Photos with more pixels are refused; default: 100 million."),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Cut the faces of photos out as FFHQ does: NAME.png, and NAME.json that says where it lay.

    With --face all the crops of a photo are NAME_0.png, NAME_1.png, ..., the largest face first.
    """
    from sdic import alignment, images
    from sdic.files import write_json
    from sdic.recognition.detection import load_detector

    which = options.parse_face(face)
    paths = options.list_photos(photos)
    numbered = paths if which == "all" else ()
    outputs = Outputs(out, paths, (".png", ".json"), numbered=numbered, overwrite=overwrite)
    found = load_detector(detector)

    def work(path: Path) -> dict[str, object]:
        photo = images.read(path, max_pixels or images.DEFAULT_MAX_PIXELS)
        crops = []
        for index, place in enumerate(alignment.find_places(photo.rgb, which, found)):
            target = outputs.target(path, index)
            cut = alignment.crop(photo.rgb, place, size)
            images.write(target, cut, edited=False, like=photo)
            description = {"photo": str(path), **place.to_dict()}
            write_json(outputs.target(path, index, ".json"), description)
            crops.append({"crop": str(target), **place.to_dict()})
        if as_json:
            return {"crops": crops}
        return {"crops": [crop["crop"] for crop in crops]}

    run_batch(paths, work, as_json)
