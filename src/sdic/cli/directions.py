"""`sdic directions`: list, look at, make and import directions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL.Image import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sdic.cli.app import app
from sdic.editing import library
from sdic.editing.direction import Direction
from sdic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from sdic.editing.preview import Synthesis
    from sdic.generators import Generator

directions_app = typer.Typer(
    help="List, preview, fit and import directions of edits.", no_args_is_help=True
)
app.add_typer(directions_app, name="directions")

Spec = Annotated[str, typer.Argument(help="NAME of the library, FILE:NAME or FILE.")]
GeneratorName = Annotated[str, typer.Option("--generator", help="Key of the generator.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights of a generator that comes without them.")
]
Out = Annotated[Path, typer.Option(help="File of directions (.safetensors) to add to.")]
Rows = Annotated[
    str | None, typer.Option(help="Rows of w+ to touch, e.g. 0-5 or 7,8,10; all by default.")
]
Seed = Annotated[int, typer.Option(help="Seed of the samples.")]
Device = Annotated[str, typer.Option(help="Where to run: cpu, cuda, ...")]
Truncation = Annotated[float, typer.Option(help="Truncation of the samples.")]


@directions_app.command("list")
def list_directions(
    generator: GeneratorName = "mobile",
    file: Annotated[Path | None, typer.Option(help="List this file instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the directions of the library, or of a file."""
    directions = library.load_library(generator) if file is None else library.load_directions(file)
    if as_json:
        typer.echo(json.dumps([_describe(d) for d in directions.values()], indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "range", "rows", "plus", "minus", "side effects"):
        table.add_column(column)
    for direction in directions.values():
        notes = direction.notes
        table.add_row(
            direction.name,
            "{:g} .. {:g}".format(*direction.strength_range),
            format_rows(direction.rows),
            *(notes.get(key, "") for key in ("plus", "minus", "side effects")),
        )
    Console().print(table)


@directions_app.command()
def show(
    spec: Spec,
    generator: GeneratorName = "mobile",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all that is known about a direction."""
    described = _describe(library.get(spec, generator))
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    for key, value in described.items():
        typer.echo(f"{key:14} {value}")


@directions_app.command()
def preview(
    spec: Spec,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("preview.png"),
    seed: Seed = 0,
    samples: Annotated[int, typer.Option(min=1, help="Rows of the strip.")] = 3,
    truncation: Truncation = 0.7,
    strengths: Annotated[
        str | None, typer.Option(help="Strengths, e.g. -3,0,3; by default over the range.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of each image in pixels.")] = 256,
    inversion: Annotated[
        Path | None, typer.Option(help="Inversion file to edit, instead of samples.")
    ] = None,
    generator: GeneratorName = "mobile",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
) -> None:
    """Render a strip: samples (or inverted photos) in rows, strengths in columns."""
    from sdic.editing.preview import of_latents, strengths_over, strip

    if inversion is not None:
        generator, synthesis = _of_inversion(inversion, size, checkpoint)
        direction = library.get(spec, generator)
    else:
        direction = library.get(spec, generator)
        network = _generator(generator, checkpoint, device)
        latents = network.broadcast(network.sample(samples, seed, truncation))
        synthesis = of_latents(network, latents, size)
    steps = _numbers(strengths) if strengths is not None else strengths_over(direction)
    _save_picture(strip(synthesis, direction, steps), out)


@directions_app.command("measure")
def measure_direction(
    spec: Spec,
    scorer: Annotated[list[str] | None, typer.Option(help="Scorers; the usual by default.")] = None,
    seed: Seed = 1,
    samples: Annotated[int, typer.Option(min=1, help="Samples to average over.")] = 16,
    truncation: Truncation = 0.7,
    strengths: Annotated[str | None, typer.Option(help="Strengths, e.g. -3,3.")] = None,
    generator: GeneratorName = "mobile",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
) -> None:
    """Measure what a direction changes, by the scorers: its effect and its side effects."""
    from sdic.editing import measurement, scorers

    direction = library.get(spec, generator)
    steps = _numbers(strengths) if strengths is not None else list(direction.strength_range)
    names = scorer or ["age", "gender", "smile", "yaw", "pitch", *scorers.PIXEL_MEASURES]
    network = _generator(generator, checkpoint, device)
    latents = network.broadcast(network.sample(samples, seed, truncation))
    changes = measurement.measure(
        network, direction, latents, steps, {n: scorers.create(n, "judging") for n in names}
    )
    table = Table("score", *(f"{step:+g}" for step in steps), "more of it means", box=None)
    for name in names:
        values = (f"{float(value):+.2f}" for value in changes[name])
        table.add_row(name, *values, scorers.meaning(name))
    Console().print(table)


@directions_app.command()
def ganspace(
    out: Out,
    samples: Annotated[int, typer.Option(help="Samples of W.")] = 200_000,
    count: Annotated[int, typer.Option(help="Components to keep.")] = 20,
    seed: Seed = 0,
    rows: Rows = None,
    generator: GeneratorName = "mobile",
    checkpoint: Checkpoint = None,
) -> None:
    """Principal components of W: directions `ganspace-0`, `ganspace-1`, ..."""
    from sdic import generators
    from sdic.editing.ganspace import principal_components

    chosen = None if rows is None else parse_rows(rows)
    network = generators.create(generator, checkpoint)
    components = principal_components(network, samples, count, seed)
    _add(out, [components.direction(k, rows=chosen) for k in range(count)])
    typer.echo(f"They hold {float(components.share.sum()):.1%} of the variance of W.")


@directions_app.command()
def sefa(
    out: Out,
    count: Annotated[int, typer.Option(help="Directions to keep.")] = 10,
    rows: Rows = None,
    normalise: Annotated[
        bool, typer.Option(help="Even out the channels first, as the published code does.")
    ] = True,
    generator: GeneratorName = "mobile",
    checkpoint: Checkpoint = None,
) -> None:
    """Closed-form factorisation of the style weights of the chosen rows."""
    from sdic import generators
    from sdic.editing.sefa import sefa_directions

    chosen = None if rows is None else parse_rows(rows)
    network = generators.create(generator, checkpoint)
    _add(out, sefa_directions(network, chosen, count, normalise))


@directions_app.command()
def fit(
    attributes: Annotated[list[str], typer.Argument(help="Scorers, e.g. smile age gender.")],
    out: Out,
    samples: Annotated[int, typer.Option(help="Samples to make and score.")] = 10_000,
    fraction: Annotated[float, typer.Option(help="Share of them kept at each end.")] = 0.02,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Take this direction (NAME or FILE:NAME) out of each; repeat for more."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only samples whose score is so, e.g. gender>1; repeat for more."),
    ] = None,
    regularisation: Annotated[float, typer.Option(help="C of the SVM.")] = 1.0,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the samples.")] = None,
    generator: GeneratorName = "mobile",
    checkpoint: Checkpoint = None,
    device: Device = "cpu",
    backend: Annotated[
        str, typer.Option(help="What renders: auto, eager, compiled, openvino or openvino-bf16.")
    ] = "auto",
) -> None:
    """InterFaceGAN: fit directions to what classifiers see in samples.

    Samples and scores are kept, so a second attribute needs no new samples.
    """
    import torch

    from sdic import weights
    from sdic.editing import interfacegan, scorers
    from sdic.editing.samples import Condition, SampleSet

    conditions = [Condition.parse(text) for text in where or []]
    chosen = {
        name: scorers.create(name) for name in [*attributes, *(one.name for one in conditions)]
    }
    others = [library.get(spec, generator) for spec in without or []]
    network = _generator(generator, checkpoint, device, backend)
    folder = cache or weights.cache_dir() / "samples"
    sample_set = SampleSet(network, folder, seed, truncation)
    latents = sample_set.latents(samples)
    source = f"{samples} samples, seed {seed}, truncation {truncation:g}, both ends {fraction:g}"
    source += f", C {regularisation:g}"

    def score(name: str) -> Tensor:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=samples)
            return sample_set.scores(
                name,
                chosen[name],
                samples,
                lambda done, total: progress.update(task, completed=done),
            )

    taken = torch.ones(samples, dtype=torch.bool)
    for condition in conditions:
        taken &= condition.holds(score(condition.name))
    if conditions:
        source += f", the {int(taken.sum())} of them where {' and '.join(where or [])}"
    for name in attributes:
        fitted = interfacegan.fit_direction(
            name,
            latents[taken],
            score(name)[taken],
            generator=generator,
            fraction=fraction,
            regularisation=regularisation,
            seed=seed,
            source=source,
        )
        typer.echo(f"{name}: {fitted.accuracy:.1%} of {fitted.held_out} held-out samples")
        _add(out, [interfacegan.condition(fitted.direction, others)])


@directions_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="Vector or GANSpace components (.pt, .npy, .npz).")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name of the direction.")] = None,
    key: Annotated[str, typer.Option(help="Which tensor, if the file has several.")] = "",
    component: Annotated[
        int | None, typer.Option(help="Component, for a file of GANSpace components.")
    ] = None,
    first: Annotated[
        int, typer.Option(min=0, max=17, help="First StyleGAN2 row of the edit tuple.")
    ] = 0,
    last: Annotated[
        int, typer.Option(min=1, max=18, help="Row after the last of the edit tuple.")
    ] = 18,
    strength: Annotated[
        float, typer.Option(help="Absolute coordinate of the edit tuple, in deviations.")
    ] = 1.0,
    generator: GeneratorName = "mobile",
) -> None:
    """Import a direction of StyleGAN2-FFHQ, or an edit tuple of GANSpace.

    Nothing but plain arrays is read from the file. StyleGAN2 rows become those of the generator.
    """
    from sdic.editing.foreign import mobile_rows, read_foreign
    from sdic.editing.ganspace import read_components

    if component is None:
        _add(out, [read_foreign(file, generator, name, key)])
        return
    rows = tuple(range(first, last))
    if generator == "mobile":
        rows = mobile_rows(rows)
    components = read_components(file, generator)
    _add(out, [components.absolute(component, rows, strength, name)])


def parse_rows(text: str) -> tuple[int, ...]:
    """Rows from a text like "0-5" or "7,8,10-12".

    Raises:
        InputError: the text is something else.
    """
    rows: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,2})(?:-([0-9]{1,2}))?\s*", part)
        if found is None:
            raise InputError(f"'{text}' names no rows; expected something like 0-5 or 7,8,10-12.")
        rows.update(range(int(found[1]), int(found[2] or found[1]) + 1))
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
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"'{text}' is no list of strengths; expected e.g. -3,0,3.") from None


def _describe(direction: Direction) -> dict[str, str]:
    return {
        "name": direction.name,
        "generator": direction.generator,
        "rows": format_rows(direction.rows),
        "range": "{:g} .. {:g}".format(*direction.strength_range),
        "source": direction.source,
        **direction.notes,
    }


def _add(out: Path, directions: list[Direction]) -> None:
    library.merge_into(out, directions)
    typer.echo(f"{', '.join(d.name for d in directions)} written to {out}")


def _generator(name: str, checkpoint: Path | None, device: str, backend: str = "auto") -> Generator:
    from sdic import generators
    from sdic.runtime.backends import accelerate

    return accelerate(generators.create(name, checkpoint), backend, device)


def _of_inversion(path: Path, size: int, checkpoint: Path | None) -> tuple[str, Synthesis]:
    """Key of the generator of an inversion file, and the synthesis of its photos, on the CPU."""
    from sdic import methods
    from sdic.methods.storage import load_inversion

    inversion = load_inversion(path)
    inverter = methods.create(inversion.method, inversion.generator, checkpoint=checkpoint)
    return inversion.generator, lambda edit: inverter.synthesize(inversion, edit, size)


def _save_picture(picture: Image, out: Path) -> None:
    try:
        picture.save(out)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The picture could not be written to {out} ({error}); expected a folder that exists "
            "and a name that ends in .png or .jpg."
        ) from error
    typer.echo(str(out))
