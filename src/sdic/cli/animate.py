"""`sdic animate`: one face while the strength of an edit runs, as GIF, WebP or MP4."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from sdic import alignment, images
from sdic.cli import options
from sdic.cli.edit import photo_of
from sdic.cli.outputs import check_targets
from sdic.cli.progress import DescentProgress
from sdic.cli.video import SUFFIXES, write_animation
from sdic.editing.direction import Edit
from sdic.editor import Editor, place_of
from sdic.errors import InputError
from sdic.images import Photo, Pixels
from sdic.methods.base import Inversion
from sdic.methods.storage import SUFFIX, load_inversion


@options.expand
def animate(
    source: Annotated[
        Path, typer.Argument(readable=False, help=f"A photo, or an inversion (*{SUFFIX}).")
    ],
    edits: Annotated[
        list[str],
        typer.Option("--edit", "-e", help="NAME=FROM:TO, e.g. smile=-2:2; or NAME=STRENGTH."),
    ],
    out: Annotated[Path, typer.Option(help=f"File to write: {', '.join(SUFFIXES)}.")],
    frames: Annotated[int, typer.Option(min=2, help="Frames from one end to the other.")] = 24,
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="Frames in a second.")] = 12,
    back: Annotated[
        bool, typer.Option(help="Come back, so that it repeats without a jump.")
    ] = True,
    size: Annotated[
        int, typer.Option(min=16, max=4096, help="Longer side in pixels, at most.")
    ] = 512,
    face: options.Face = "largest",
    aligned: options.Aligned = False,
    crop: Annotated[bool, typer.Option("--crop", help="Show the face alone.")] = False,
    detail: Annotated[
        bool, typer.Option(help="Keep the photo's fine structure; paste the change only.")
    ] = True,
    photo: options.OnePhoto = None,
    *,
    engine: options.Engine,
) -> None:
    """Invert a face once, and render it while the strengths run.

    Examples: sdic animate me.jpg -e smile=-2:2 --out smile.gif; sdic animate me.jpg -e age=-20y:20y
    -e smile=1 --crop --out age.mp4
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"Cannot write {out}: the name has to end in {', '.join(SUFFIXES)}.")
    which = options.parse_face(face)
    if which == "all":
        raise InputError("An animation shows one face; give --face largest or an index.")
    options.check_regular(source)
    ways = parse_ways(edits, engine.generator)
    editor = options.make_editor(engine)
    shares = [k / (frames - 1) for k in range(frames)]
    changes = [editor.make_edit({way.name: way.at(share) for way in ways}) for share in shares]
    if source.name.endswith(SUFFIX):
        inversion = load_inversion(source)
        base = None if crop else photo_of(inversion, source, photo)
    else:
        base = images.read(source)
        inversion = _invert(editor, base, which, aligned)
    check_targets(
        [out],
        [source] if base is None or base.path is None else [source, base.path],
        overwrite=True,
    )
    rendered = render_frames(editor, inversion, changes, None if crop else base, detail)
    shown = [shrink(pixels, size) for pixels in rendered]
    write_animation(out, there_and_back(shown) if back else shown, rate)
    typer.echo(str(out))


def _invert(editor: Editor, photo: Photo, which: alignment.Which, aligned: bool) -> Inversion:
    place = editor.find(photo, which, aligned)[0]
    with DescentProgress() as progress:
        return editor.invert_place(photo, place, progress)


@dataclass(frozen=True)
class Way:
    """What the strength of a direction runs through: from `first` to `last`, evenly."""

    name: str
    first: float
    last: float

    def at(self, share: float) -> float:
        """Strength at a share of the way; 0 and 1 give the ends exactly."""
        return (1 - share) * self.first + share * self.last


def parse_ways(texts: Sequence[str], generator: str = "mobile") -> list[Way]:
    """`NAME=FROM:TO` or `NAME=STRENGTH` texts; strengths may have units (`units.to_strength`).

    Raises:
        InputError: a text has another form, a direction is named twice, no strength runs, or a
            unit is not the direction's.
    """
    ways: dict[str, Way] = {}
    for text in texts:
        name, value = options.split_edit(text)
        ends = [options.parse_strength(name, end, generator) for end in value.split(":")]
        way = Way(name, ends[0], ends[-1])
        if name in ways:
            raise InputError(f"The direction '{name}' is given twice; give it once.")
        if len(ends) > 2 or not all(map(math.isfinite, ends)):
            raise InputError(f"The edit is '{text}'; expected NAME=FROM:TO, e.g. smile=-2:2.")
        ways[name] = way
    if all(way.first == way.last for way in ways.values()):
        raise InputError("Nothing would move; give a strength from and to, e.g. -e smile=-2:2.")
    return list(ways.values())


def render_frames(
    editor: Editor,
    inversion: Inversion,
    changes: Sequence[Edit],
    photo: Photo | None,
    detail: bool = True,
) -> Iterator[Pixels]:
    """The photo with each edit, or without a photo the edited crop: [H,W,3] uint8.

    What all frames share, the unedited face, is rendered once.
    """
    place = None if photo is None else place_of(inversion)
    unedited = editor.render(inversion) if place is not None and detail else None
    for change in changes:
        edited = editor.render(inversion, change)
        if photo is None or place is None:
            yield edited
        else:
            yield alignment.paste_back(photo.rgb, edited, place, original_crop=unedited)


def there_and_back(frames: Sequence[Pixels]) -> list[Pixels]:
    """Frames, then the inner ones backwards: repeated, no frame is shown twice in a row."""
    return [*frames, *frames[-2:0:-1]]


def shrink(pixels: Pixels, longer_side: int) -> Pixels:
    """Pixels [H,W,3] uint8 scaled down, if need be, to a longer side of that many pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
    return np.asarray(picture)
