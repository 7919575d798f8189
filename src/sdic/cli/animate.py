"""`sdic animate`: one face while the strength of an edit runs, as GIF, WebP or MP4."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from PIL import Image

from sdic.cli import options
from sdic.cli.outputs import check_targets
from sdic.cli.video import SUFFIXES, write_animation
from sdic.errors import InputError

if TYPE_CHECKING:
    from sdic.editing.direction import Edit
    from sdic.images import Pixels
    from sdic.session import FaceSession


@options.expand
def animate(
    source: options.OneSource,
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
    detail: options.Detail = True,
    photo: options.OnePhoto = None,
    photos: options.FolderOfPhotos = Path(),
    overwrite: options.Overwrite = False,
    *,
    engine: options.Engine,
) -> None:
    """Invert a face once, and render it while the strengths run.

    Examples: sdic animate me.jpg -e smile=-2:2 --out smile.gif; sdic animate me.jpg -e age=-20y:20y
    -e smile=1 --crop --out age.mp4
    """
    from sdic.cli.faces import Editors, Sources

    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"Cannot write {out}: the name has to end in {', '.join(SUFFIXES)}.")
    which = options.parse_face(face)
    if which == "all":
        raise InputError("An animation shows one face; give --face largest or an index.")
    given = Sources.of([source], photo, photos)
    if len(given.paths) != 1:
        raise InputError(f"An animation shows one photo; {source} has {len(given.paths)}.")
    ways = parse_ways(edits, engine.generator or options.DEFAULT_GENERATOR)
    check_targets([out], [*given.paths, *given.photos_of_inversions()], overwrite)
    editors = Editors(engine)
    session = given.open(given.paths[0], editors, which, aligned, crop)
    editor = editors.of(session)
    shares = [k / (frames - 1) for k in range(frames)]
    changes = [editor.make_edit({way.name: way.at(share) for way in ways}) for share in shares]
    rendered = render_frames(session[0], changes, crop, detail)
    shown = [shrink(pixels, size) for pixels in rendered]
    write_animation(out, there_and_back(shown) if back else shown, rate)
    typer.echo(str(out))


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
    session: FaceSession, changes: Sequence[Edit], crop: bool = False, detail: bool = True
) -> Iterator[Pixels]:
    """The photo with each edit, or the edited crop alone: [H,W,3] uint8."""
    for change in changes:
        yield session.render(change) if crop else session.paste(change, detail=detail).rgb


def there_and_back(frames: Sequence[Pixels]) -> list[Pixels]:
    """Frames, then the inner ones backwards: repeated, no frame is shown twice in a row."""
    return [*frames, *frames[-2:0:-1]]


def shrink(pixels: Pixels, longer_side: int) -> Pixels:
    """Pixels [H,W,3] uint8 scaled down, if need be, to a longer side of that many pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
    return np.asarray(picture)
