"""`sdic weights`: the pretrained parts, where they come from, and their state in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sdic import weights
from sdic.cli import options
from sdic.cli.outputs import check_targets
from sdic.cli.terminal import say
from sdic.errors import InputError, WeightsError

weights_app = typer.Typer(help="List, fetch and verify pretrained weights.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(help="Names of weights (see `list`).")]


@weights_app.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all weights: what for, where from, how large, under which licence, fetched or not."""
    rows = [_describe(name) for name in weights.names()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "there", "MB", "from", "licence", "purpose"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for row in rows:
        source = f"{row['client']}: {row['package']} {row['version']}" if row["client"] else "sdic"
        licence = f"{row['licence']}. {row['licence_note']}".strip()
        there = "yes" if row["fetched"] else "no"
        size = f"{row['download_size'] / 1e6:.1f}"
        table.add_row(row["name"], there, size, source, licence, row["purpose"])
    Console().print(table)


@weights_app.command()
def fetch(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Fetch all weights.")] = False,
    source: Annotated[
        Path | None, typer.Option(help="Folder of downloaded archives, for use without network.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch even what is there.")] = False,
) -> None:
    """Fetch weights into the cache, and print where each one is."""
    if bool(names) == every:
        raise InputError("Give names of weights to fetch, or --all; `sdic weights list` has them.")
    wanted = weights.names() if every else names or []
    for name in wanted:
        weights.get(name)  # an unknown name is told before anything is fetched
    for name in wanted:
        say(str(weights.fetch(name, source=source, again=again)))


@weights_app.command()
def verify(names: Names = None) -> None:
    """Hash weights again and compare; without names, all that are in the cache, graphs too."""
    from sdic.runtime import openvino

    wanted = names or [name for name in weights.names() if weights.is_fetched(name)]
    damages = {name: _damage(name) for name in wanted}
    for name, whole in [] if names else openvino.verify_graphs():
        advice = "it will be converted anew when it is next needed"
        damages[name] = None if whole else f"The graph '{name}' is damaged; {advice}."
    for name, damage in damages.items():
        typer.echo(f"{name}: {'damaged' if damage else 'whole'}")
    if any(damages.values()):
        raise WeightsError(" ".join(damage for damage in damages.values() if damage))


@weights_app.command()
def path(name: Annotated[str, typer.Argument(help="Name of a weight.")]) -> None:
    """Print where a fetched weight lies; nothing is fetched."""
    say(str(weights.path(name)))


def _damage(name: str) -> str | None:
    """What is wrong with a weight, in one sentence; None if nothing is."""
    try:
        weights.verify(name)
    except WeightsError as error:
        return str(error)
    return None


def _describe(name: str) -> dict[str, Any]:
    weight = weights.get(name)
    archive = weight.archive if isinstance(weight, weights.FetchedWeight) else None
    packaged_size = weight.size if isinstance(weight, weights.PackagedWeight) else 0
    return {
        "name": name,
        "purpose": weight.purpose,
        "licence": weight.licence,
        "licence_note": weight.licence_note,
        "client": archive.client if archive else None,
        "package": archive.package if archive else None,
        "version": archive.version if archive else None,
        "archive": archive.file if archive else None,
        "sha256": archive.sha256 if archive else getattr(weight, "sha256", None),
        "download_size": archive.size if archive else packaged_size,
        "fetched": weights.is_fetched(name),
    }


@weights_app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(readable=False, help="An official SDIC or e4e checkpoint (.pt).")
    ],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    overwrite: options.Overwrite = False,
) -> None:
    """Convert an official checkpoint to safetensors, key by key, without running code in it."""
    from sdic.methods import convert_checkpoint

    options.check_regular(checkpoint)
    check_targets([out], [checkpoint], overwrite)
    done = convert_checkpoint(checkpoint, out)
    say(
        f"{out}: {done.method}, {done.resolution}x{done.resolution}, {done.num_styles} style rows, "
        f"{done.num_tensors} tensors"
    )
    for note in done.notes:
        say(f"note: {note}")
    if done.dropped:
        say(f"left out, since the published forward pass never reaches them ({len(done.dropped)}):")
        for key in done.dropped:
            say(f"  {key}")
