"""`sdic directions`: list, look at, make and import directions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from sdic.cli import options
from sdic.cli.outputs import check_targets
from sdic.cli.terminal import printable, say
from sdic.editing.catalogue import Description, library_file, read_descriptions
from sdic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from sdic.editing.direction import Direction
    from sdic.editing.preview import Synthesis
    from sdic.editing.samples import SampleSet, Scorer
    from sdic.generators import Generator

MAX_SAMPLES, MAX_ROW = 10_000_000, 9999
directions_app = typer.Typer(
    help="List, preview, fit and import directions of edits.", no_args_is_help=True
)

Spec = Annotated[str, typer.Argument(help="NAME of the library, FILE:NAME or FILE.")]
Out = Annotated[Path, typer.Option(help="File of directions (.safetensors) to add to.")]
Rows = Annotated[
    str | None, typer.Option(help="Rows of w+ to touch, e.g. 0-5 or 7,8,10; all by default.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the samples.")]
Truncation = Annotated[float, typer.Option(min=0, max=10, help="Truncation of the samples.")]


@dataclass(frozen=True)
class Renderer:
    """The options of verbs that render samples; see `options.expand`."""

    generator: options.GeneratorName = "mobile"
    checkpoint: options.GeneratorFile = None
    device: options.Device = "cpu"
    backend: options.Backend = "auto"

    def load(self) -> Generator:
        """The generator, ready to render."""
        return options.make_generator(self.generator, self.checkpoint, self.device, self.backend)


@directions_app.command("list")
def list_directions(
    generator: options.GeneratorName = "mobile",
    file: Annotated[
        Path | None, typer.Option(readable=False, help="List this file instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the directions of the library, or of a file."""
    path = library_file(generator) if file is None else file
    # No directions ship for some generators.
    directions = read_descriptions(path) if file is not None or path.is_file() else {}
    if as_json:
        typer.echo(json.dumps([_describe(one) for one in directions.values()], indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "range", "rows", "plus", "minus", "side effects"):
        table.add_column(column)
    for one in directions.values():
        notes = (one.notes.get(key, "") for key in ("plus", "minus", "side effects"))
        cells = (one.name, _format_range(one), format_rows(one.rows), *notes)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    Console().print(table)


@directions_app.command()
def show(
    spec: Spec,
    generator: options.GeneratorName = "mobile",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all that is known about a direction."""
    from sdic.editing import library

    described = _describe(library.get(spec, generator))
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    for key, value in described.items():
        say(f"{key:14} {value}")


@directions_app.command()
@options.expand
def preview(
    spec: Spec,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("preview.png"),
    seed: Seed = 0,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Rows of the strip.")] = 3,
    truncation: Truncation = 0.7,
    strengths: Annotated[
        str | None, typer.Option(help="Strengths, e.g. -3,0,3; by default over the range.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of each image in pixels.")] = 256,
    inversion: Annotated[
        Path | None,
        typer.Option(readable=False, help="Inversion file to edit, instead of samples."),
    ] = None,
    overwrite: options.Overwrite = False,
    *,
    renderer: Renderer,
) -> None:
    """Render a strip: samples (or inverted photos) in rows, strengths in columns."""
    import numpy as np

    from sdic import images
    from sdic.editing import library
    from sdic.editing.preview import of_latents, strengths_over, strip

    steps = None if strengths is None else _numbers(strengths)
    options.picture_suffix(out.suffix)
    check_targets([out], [inversion] if inversion is not None else (), overwrite)
    if inversion is not None:
        generator, synthesis = _of_inversion(inversion, size, renderer.checkpoint)
        direction = library.get(spec, generator)
    else:
        direction = library.get(spec, renderer.generator)
        network = renderer.load()
        latents = network.broadcast(network.sample(samples, seed, truncation))
        synthesis = of_latents(network, latents, size)
    picture = strip(synthesis, direction, steps or strengths_over(direction))
    images.write(out, np.asarray(picture.convert("RGB")), generated=inversion is None)
    say(str(out))


@directions_app.command("measure")
@options.expand
def measure_direction(
    spec: Spec,
    scorer: Annotated[list[str] | None, typer.Option(help="Scorers; the usual by default.")] = None,
    seed: Seed = 1,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_SAMPLES, help="Samples to average over.")
    ] = 16,
    truncation: Truncation = 0.7,
    strengths: Annotated[str | None, typer.Option(help="Strengths, e.g. -3,3.")] = None,
    *,
    renderer: Renderer,
) -> None:
    """Measure what a direction changes, by the scorers: its effect and its side effects."""
    from sdic.editing import library, measurement, scorers

    direction = library.get(spec, renderer.generator)
    steps = _numbers(strengths) if strengths is not None else list(direction.strength_range)
    names = scorer or ["age", "gender", "smile", "yaw", "pitch", *scorers.PIXEL_MEASURES]
    judges = {name: scorers.create(name, "judging") for name in names}
    network = renderer.load()
    latents = network.broadcast(network.sample(samples, seed, truncation))
    changes = measurement.measure(network, direction, latents, steps, judges)
    table = Table("score", *(f"{step:+g}" for step in steps), "more of it means", box=None)
    for name in names:
        values = (f"{float(value):+.2f}" for value in changes[name])
        table.add_row(name, *values, scorers.meaning(name))
    Console().print(table)


@directions_app.command()
def ganspace(
    out: Out,
    samples: Annotated[int, typer.Option(min=2, max=MAX_SAMPLES, help="Samples of W.")] = 200_000,
    count: Annotated[int, typer.Option(min=1, max=512, help="Components to keep.")] = 20,
    seed: Seed = 0,
    rows: Rows = None,
    generator: options.GeneratorName = "mobile",
    checkpoint: options.GeneratorFile = None,
) -> None:
    """Principal components of W: directions `ganspace-0`, `ganspace-1`, ..."""
    from sdic import generators
    from sdic.editing.ganspace import principal_components

    check_addition(out)
    chosen = None if rows is None else parse_rows(rows)
    network = generators.create(generator, checkpoint)
    components = principal_components(network, samples, count, seed)
    _add(out, [components.direction(k, rows=chosen) for k in range(count)])
    typer.echo(f"They hold {float(components.share.sum()):.1%} of the variance of W.")


@directions_app.command()
def sefa(
    out: Out,
    count: Annotated[int, typer.Option(min=1, max=512, help="Directions to keep.")] = 10,
    rows: Rows = None,
    normalise: Annotated[
        bool, typer.Option(help="Even out the channels first, as the published code does.")
    ] = True,
    generator: options.GeneratorName = "mobile",
    checkpoint: options.GeneratorFile = None,
) -> None:
    """Closed-form factorisation of the style weights of the chosen rows."""
    from sdic import generators
    from sdic.editing.sefa import sefa_directions

    check_addition(out)
    chosen = None if rows is None else parse_rows(rows)
    network = generators.create(generator, checkpoint)
    _add(out, sefa_directions(network, chosen, count, normalise))


@directions_app.command()
@options.expand
def fit(
    attributes: Annotated[list[str], typer.Argument(help="Scorers, e.g. smile age gender.")],
    out: Out,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_SAMPLES, help="Samples to make and score.")
    ] = 10_000,
    fraction: Annotated[float, typer.Option(help="Share of them kept at each end.")] = 0.02,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Take this direction (NAME or FILE:NAME) out of each; repeat for more."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only samples whose score is so, e.g. gender>1; repeat for more."),
    ] = None,
    regularisation: Annotated[float, typer.Option(min=1e-9, help="C of the SVM.")] = 1.0,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the samples.")] = None,
    *,
    renderer: Renderer,
) -> None:
    """InterFaceGAN: fit directions to what classifiers see in samples.

    Samples and scores are kept, so a second attribute needs no new samples.
    """
    import torch

    from sdic import weights
    from sdic.editing import interfacegan, library, scorers
    from sdic.editing.samples import Condition, SampleSet

    check_addition(out)
    conditions = [Condition.parse(text) for text in where or []]
    judges = {name: scorers.create(name) for name in [*attributes, *(c.name for c in conditions)]}
    others = [library.get(spec, renderer.generator) for spec in without or []]
    folder = cache or weights.cache_dir() / "samples"
    sample_set = SampleSet(renderer.load(), folder, seed, truncation)
    latents = sample_set.latents(samples)
    scores = {name: _scores(sample_set, name, judge, samples) for name, judge in judges.items()}
    taken = torch.ones(samples, dtype=torch.bool)
    for condition in conditions:
        taken &= condition.holds(scores[condition.name])
    source = f"{samples} samples, seed {seed}, truncation {truncation:g}, both ends {fraction:g}"
    source += f", C {regularisation:g}"
    if conditions:
        source += f", the {int(taken.sum())} of them where {' and '.join(where or [])}"
    for name in attributes:
        fitted = interfacegan.fit_direction(
            name,
            latents[taken],
            scores[name][taken],
            generator=renderer.generator,
            fraction=fraction,
            regularisation=regularisation,
            seed=seed,
            source=source,
        )
        typer.echo(f"{name}: {fitted.accuracy:.1%} of {fitted.held_out} held-out samples")
        _add(out, [interfacegan.condition(fitted.direction, others)])


@directions_app.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(readable=False, help="Vector or GANSpace components (.pt, .npy, .npz)."),
    ],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name of the direction.")] = None,
    key: Annotated[str, typer.Option(help="Which tensor, if the file has several.")] = "",
    component: Annotated[
        int | None, typer.Option(min=0, help="Component, for a file of GANSpace components.")
    ] = None,
    first: Annotated[
        int, typer.Option(min=0, max=MAX_ROW, help="First StyleGAN2 row of the edit tuple.")
    ] = 0,
    last: Annotated[
        int, typer.Option(min=0, max=MAX_ROW, help="Row after the last of the edit tuple.")
    ] = 18,
    strength: Annotated[
        float, typer.Option(help="Absolute coordinate of the edit tuple, in deviations.")
    ] = 1.0,
    generator: options.GeneratorName = "mobile",
) -> None:
    """Import a direction of StyleGAN2-FFHQ, or an edit tuple of GANSpace.

    Nothing but plain arrays is read from the file. StyleGAN2 rows become those of the generator.
    """
    from sdic.editing.foreign import mobile_rows, read_foreign
    from sdic.editing.ganspace import read_components

    options.check_regular(file)
    check_addition(out, [file])
    if component is None:
        _add(out, [read_foreign(file, generator, name, key)])
        return
    rows = tuple(range(first, last))
    if generator == "mobile":
        rows = mobile_rows(rows)
    components = read_components(file, generator)
    _add(out, [components.absolute(component, rows, strength, name)])


def check_addition(out: Path, sources: Sequence[Path] = ()) -> None:
    """Raise unless directions can be added to a file, before they are computed.

    Raises:
        InputError: its name does not end in .safetensors, it is there but is no file of directions,
            it is one of the sources, or it cannot be written.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"Directions cannot be added to {out}; its name must end in .safetensors.")
    check_targets([out], sources, overwrite=True)
    if out.exists():
        read_descriptions(out)


def parse_rows(text: str) -> tuple[int, ...]:
    """Rows from a text like "0-5" or "7,8,10-12".

    Raises:
        InputError: the text is something else.
    """
    rows: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        if match is None:
            raise InputError(
                f"'{text}' names no rows; expected something like 0-5 or 7,8,10-12, up to "
                f"{MAX_ROW}."
            )
        rows.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not rows:
        raise InputError(f"'{text}' names no rows; a range runs upwards, like 0-5.")
    return tuple(sorted(rows))


def format_rows(rows: tuple[int, ...] | None) -> str:
    """Rows as a short text, the reverse of `parse_rows`; None is "all"."""
    if rows is None:
        return "all"
    parts: list[list[int]] = []
    for row in sorted(rows):
        if parts and row == parts[-1][-1] + 1:
            parts[-1].append(row)
        else:
            parts.append([row])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise InputError(f"'{text}' is no list of strengths; expected e.g. -3,0,3.")
    return numbers


def _scores(sample_set: SampleSet, name: str, judge: Scorer, samples: int) -> Tensor:
    """Scores of the samples, under a bar on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=samples)
        return sample_set.scores(
            name, judge, samples, lambda done, total: progress.update(task, completed=done)
        )


def _describe(direction: Direction | Description) -> dict[str, str]:
    return {
        "name": direction.name,
        "generator": direction.generator,
        "rows": format_rows(direction.rows),
        "range": _format_range(direction),
        "source": direction.source,
        **direction.notes,
    }


def _format_range(direction: Direction | Description) -> str:
    return "{:g} .. {:g}".format(*direction.strength_range)


def _add(out: Path, directions: list[Direction]) -> None:
    from sdic.editing import library

    library.merge_into(out, directions)
    say(f"{', '.join(one.name for one in directions)} written to {out}")


def _of_inversion(path: Path, size: int, checkpoint: Path | None) -> tuple[str, Synthesis]:
    """Key of the generator of an inversion file, and the synthesis of its photos, on the CPU."""
    from sdic import methods
    from sdic.methods.storage import load_inversion

    options.check_regular(path)
    inversion = load_inversion(path)
    family = inversion.generator.family
    inverter = methods.create(inversion.method, family, checkpoint=checkpoint)
    return family, lambda edit: inverter.synthesize(inversion, edit, size)
