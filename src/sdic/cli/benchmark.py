"""`sdic benchmark`: methods under one protocol on a folder of aligned faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdic import evaluation, methods
from sdic.cli import options
from sdic.domains import FACES
from sdic.editing import library
from sdic.errors import InputError
from sdic.evaluation import MeasuredEdit, Settings, tables
from sdic.losses import perceptual
from sdic.methods.base import Inverter
from sdic.runtime.backends import resolve_device


def benchmark(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of aligned faces.")],
    method_list: Annotated[
        str, typer.Option("--methods", help="Keys of methods; NAME+STEPS refines, e.g. sdic+50.")
    ] = "sdic,e4e",
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the report.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for reports and pictures; by default named like the JSON file."),
    ] = None,
    edits: Annotated[str, typer.Option(help="Edits to measure, e.g. smile=+2,age=-2.")] = "",
    editing: Annotated[
        bool, typer.Option("--editing", help="Measure age, smile and yaw at both range ends.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    refine: options.Refine = 0,
    pictures: Annotated[int, typer.Option(min=0, help="Images shown in the page.")] = 8,
    lpips_backbone: Annotated[
        Path | None, typer.Option(help="Your own AlexNet file, for plain LPIPS.")
    ] = None,
    lpips_linear: Annotated[
        Path | None, typer.Option(help="Your own linear layers of LPIPS v0.1 for AlexNet.")
    ] = None,
    generator: Annotated[str, typer.Option(help="mobile or stylegan2.")] = "mobile",
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="FILE, METHOD=FILE, or NAME=FILE of a name of your own."),
    ] = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
) -> None:
    """Measure methods: fidelity, identity, seconds, memory, and what edits do.

    Run it again with the same folder to go on after a stop. The reports show the faces.

    Example: sdic benchmark faces --methods sdic,e4e --editing --json results.json
    """
    target = results_folder(json_file, out)
    names = [name.strip() for name in method_list.split(",")]
    files = parse_checkpoints(checkpoint or [], names)
    device = resolve_device(device)
    measured = edits_to_measure(edits, editing, generator)
    lpips = load_lpips(lpips_backbone, lpips_linear)
    notes = {"generator": generator, "backend": backend, "refinement_steps": str(refine)}
    runner = evaluation.Benchmark(
        folder,
        target,
        _creator(generator, files, backend, device, refine),
        evaluation.load_judges(measured, lpips),
        measured,
        Settings(device, limit, pictures, notes, {k or "all": f.name for k, f in files.items()}),
    )
    report = _run(runner, names)
    evaluation.write_reports(report, runner.gallery(report), target)
    if json_file is not None:
        evaluation.write_json(report, json_file)
    typer.echo(tables.markdown(report))
    typer.echo(f"Reports: {target / 'report.html'} and .md, .csv, .json beside it.")
    if report["failures"]:
        raise typer.Exit(1)


def results_folder(json_file: Path | None, out: Path | None) -> Path:
    """The folder that results go to; without --out it is named like the JSON file.

    Raises:
        InputError: neither is given, or the JSON file has no suffix to leave out.
    """
    if out is not None:
        return out
    if json_file is None:
        raise InputError("There is no place for the results; give --json FILE or --out FOLDER.")
    if not json_file.suffix:
        raise InputError(f"The file {json_file} has no suffix; name it {json_file}.json.")
    return json_file.with_suffix("")


def parse_checkpoints(texts: list[str], method_specs: list[str]) -> dict[str, Path]:
    """FILE or NAME=FILE texts as files by name; "" is for all others.

    Args:
        texts: of --checkpoint. A name is that of a method, or one of the user's own, of which the
            file says what method it is.
        method_specs: of --methods; every name in them is a method's or has a file.

    Raises:
        InputError: there is no such file; a name has two files, stands in no --methods, or is
            neither a method's nor has a file.
    """
    files: dict[str, Path] = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or Path(text).exists():
            name, file = "", text
        if name in files:
            raise InputError(f"Two checkpoints are given for '{name or 'all methods'}'; give one.")
        files[name] = Path(file)
        if not files[name].is_file():
            raise InputError(f"There is no checkpoint file at {files[name]}; give the path of one.")
    wanted = {evaluation.parse_method(spec)[0] for spec in method_specs}
    for name in filter(None, files):
        if name not in wanted and name not in methods.names():
            raise InputError(
                f"The checkpoint '{name}={files[name]}' belongs to none of the methods; add "
                f"'{name}' to --methods, or leave it out."
            )
    for name in wanted - set(files):
        methods.get(name)
    return files


def edits_to_measure(edits: str, editing: bool, generator: str) -> list[MeasuredEdit]:
    """The edits to be measured, from --edits and --editing.

    Raises:
        InputError: a text has another form than NAME=STRENGTH, or a direction is not known.
    """
    measured = []
    if editing:
        chosen = [library.get(name, generator) for name in FACES.edits]
        measured += evaluation.edits_of_range(chosen)
    for text in filter(None, map(str.strip, edits.split(","))):
        # One by one, since a direction may come with several strengths.
        for name, strength in options.parse_strengths([text], generator).items():
            measured.append(MeasuredEdit.of(library.get(name, generator), strength))
    return measured


def load_lpips(backbone: Path | None, linear: Path | None) -> perceptual.PerceptualLoss | None:
    """Plain LPIPS from the user's files, or None if none are given.

    Raises:
        InputError: only one of both files is given.
        WeightsError: a file cannot be read.
    """
    if backbone is None and linear is None:
        return None
    if backbone is None or linear is None:
        raise InputError("Plain LPIPS needs both files: give --lpips-backbone and --lpips-linear.")
    for file in (backbone, linear):
        options.check_regular(file)
    return perceptual.load_lpips(backbone, linear)


def _creator(
    generator: str, files: dict[str, Path], backend: str, device: str, refine: int
) -> Callable[[str], Inverter]:
    """What makes a method from NAME or NAME+STEPS."""

    def create(spec: str) -> Inverter:
        name, steps = evaluation.parse_method(spec, refine)
        if name in methods.names():
            file = files.get(name, files.get(""))
            own = None if file is not None and not methods.get(name).iterates else generator
            inverter = methods.create(name, own, checkpoint=file, backend=backend, device=device)
        else:
            inverter = methods.open_checkpoint(files[name], backend=backend, device=device)
        if inverter.generator.name != generator:
            raise InputError(
                f"The method '{spec}' is of the generator '{inverter.generator.name}', this "
                f"benchmark of '{generator}'; measure it by a run with --generator "
                f"{inverter.generator.name}."
            )
        if not steps:
            return inverter
        return evaluation.Refined(inverter, methods.refiner(inverter.generator), steps)

    return create


def _run(runner: evaluation.Benchmark, names: list[str]) -> evaluation.Report:
    """Run with a bar on standard error, on a terminal only."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("loading", total=None)

        def show(method: str, image: str, done: int, total: int) -> None:
            text = escape(f"{method} {image}")
            bar.update(task, description=text, completed=done, total=total)

        return runner.run(names, show)
