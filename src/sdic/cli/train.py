"""`sdic train`: train a method from a recipe, go on with a run, and export its weights."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from sdic.errors import TrainingError
from sdic.files import check_writable, save_tensors

MOST_PROCESSES = 64


class _RunByDefault(TyperGroup):
    """`sdic train RECIPE` means `sdic train run RECIPE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


train_app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Train a method: `sdic train RECIPE --data DIR --out RUN`; the same command goes on.",
)


@train_app.command("run")
def run(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped recipe.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; it is resumed if it exists.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that holds the recipe's photo folders.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Stop in time, with a checkpoint.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Stop after this many steps in all.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16; default: the recipe's.")] = "",
    devices: Annotated[int, typer.Option(help="Processes, one on each device.")] = 1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another value: key=value, e.g. seed=1.")
    ] = None,
) -> None:
    """Train from a recipe, or go on where an earlier call with the same --out ended."""
    began = time.monotonic()
    if not minutes >= 0 or steps < 0 or not 1 <= devices <= MOST_PROCESSES:
        raise TrainingError(
            "--minutes and --steps must be numbers of 0 or more, --devices of 1 to "
            f"{MOST_PROCESSES}."
        )
    session, _ = _training()
    overrides = [*(set_ or []), *([f"precision={precision}"] if precision else [])]
    console = Console(soft_wrap=True)
    outcome = session.run(
        recipe,
        overrides,
        out,
        data=data,
        deadline=began + 60 * minutes if minutes else None,
        stop_at=steps or None,
        device=device,
        processes=devices,
        console=console,
    )
    if outcome.finished:
        text = f"finished after {outcome.step} steps; next: sdic train export {out} --out FILE"
    else:
        text = f"stopped at step {outcome.step}; run the same command again to go on"
    if outcome.speaks:
        console.print(text, highlight=False, markup=False)


@train_app.command("ablations")
def ablations(
    out: Annotated[Path, typer.Option(help="Folder of the runs and of their table.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the recipe's photo folders.")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Variants; all of them if none is named.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="What the variants vary.")] = "sdic-ablation",
    minutes: Annotated[float, typer.Option(help="Stop in time, with a checkpoint.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Steps of each variant; 0: the recipe's.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another value for all: key=value.")
    ] = None,
) -> None:
    """Train the ablations of the paper and print their table; the same command goes on."""
    if not minutes >= 0 or steps < 0:
        raise TrainingError("--minutes and --steps must be numbers of 0 or more.")
    deadline = time.monotonic() + 60 * minutes if minutes else None
    check_writable(out / "ablations.md", TrainingError)
    session, studies = _training()
    console = Console(soft_wrap=True)
    budget = [f"steps={steps}", f"validation.every={steps}"] if steps else []

    def train(overrides: tuple[str, ...], folder: Path) -> bool:
        console.print(folder.name, highlight=False, markup=False)
        outcome = session.run(
            recipe,
            [*budget, *(set_ or []), *overrides],
            folder,
            data=data,
            deadline=deadline,
            device=device,
            console=console,
        )
        return not outcome.finished

    table = studies.run_all(studies.choose(names or ()), out, train)
    console.print(table.read_text("utf-8"), highlight=False, markup=False)


@train_app.command("export")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
) -> None:
    """Write the averaged weights of a run as one fp16 safetensors file, recipe inside."""
    from sdic.training.export import export as export_run

    metadata = export_run(run, out)
    size = out.stat().st_size / 1e6
    Console(soft_wrap=True).print(
        f"{out}: step {metadata['step']}, {size:.1f} MB", highlight=False, markup=False
    )


@train_app.command("encoder-start")
def encoder_start(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    samples: Annotated[
        int, typer.Option(min=1, max=100_000, help="Generated images to fit on.")
    ] = 1600,
    fresh: Annotated[
        int, typer.Option(min=2, max=100_000, help="Other images to measure it on.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the samples.")] = 0,
) -> None:
    """Fit where the compact encoder's training starts: components.encoder_weights=FILE."""
    from sdic import generators, weights
    from sdic.encoders.compact import CompactEncoder
    from sdic.runtime.backends import accelerate
    from sdic.training import encoder_start as start

    check_writable(out, TrainingError)
    generator = accelerate(generators.create("mobile"))
    encoder = CompactEncoder(generator.num_styles, generator.mean_latent).train()
    wanted, trunk = encoder.trunk.state_dict(), weights.load("efficientnet-lite0")
    encoder.trunk.load_state_dict({key: trunk[key] for key in wanted})
    made = start.collect(encoder, generator, samples + fresh, seed)
    start.fit(encoder, made.at(slice(0, samples)), seed)
    share = start.explained(encoder, made.at(slice(samples, None)))
    save_tensors(out, {f"encoder.{key}": value for key, value in encoder.state_dict().items()})
    typer.echo(f"{out}: explains {share:.0%} of the variance of w on {fresh} fresh images")


@train_app.command("faces")
def faces(
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Faces in all.")],
    truncation: Annotated[float, typer.Option(help="0 to 1, of w, as data.truncation.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side in pixels, as image_size.")] = 256,
    generator: Annotated[str, typer.Option(help="Key of the generator.")] = "mobile",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of a generator that comes without them.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
) -> None:
    """Make the faces beforehand that recipes with data.generated read; the same command goes on."""
    from sdic import generators, weights
    from sdic.runtime.backends import resolve_device
    from sdic.training import generated
    from sdic.training.log import Reporter

    if not 0 <= truncation <= 1:
        raise TrainingError(f"--truncation is {truncation}; it must be between 0 and 1.")
    device = resolve_device(device)
    network = generators.create(generator, checkpoint)
    network.check_size(size)
    cache = weights.cache_dir() / "generated"
    folder = generated.folder_of(cache, network, truncation, size)
    console = Console(soft_wrap=True)
    reporter = Reporter(console, count, 0, "face")
    network = generated.quickest(network, device)
    generated.GeneratedFaces.open(
        network, folder, count, truncation, size, lambda done, _: reporter.step(done, {})
    )
    reporter.close()
    settings = f"data.generated={count} data.truncation={truncation:g} image_size={size}"
    console.print(f"{folder}: a recipe with {settings} reads them", highlight=False, markup=False)


def _training() -> tuple[ModuleType, ModuleType]:
    """The modules of training and of its ablations, which stand on packages of their own."""
    try:
        from sdic.training import ablations, session
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"Training needs the package '{error.name}'; install it with "
            "`pip install 'sdic[train]'`."
        ) from error
    return session, ablations
