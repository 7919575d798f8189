"""`sdic generate`: faces that nobody has, from seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from sdic.cli import options
from sdic.cli.outputs import check_targets
from sdic.cli.terminal import say
from sdic.errors import InputError

MAX_SEEDS = 100_000


def generate(
    out: Annotated[Path, typer.Option(help="Folder for the images; made if missing.")],
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0-7 or 3,5,10-12.")] = "0-7",
    truncation: Annotated[
        float, typer.Option(min=0, max=10, help="0 is the mean face, 1 the full variety.")
    ] = 0.7,
    generator: options.GeneratorName = "mobile",
    checkpoint: options.GeneratorFile = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the images in pixels; by default in full.")
    ] = None,
    device: options.Device = "auto",
    suffix: Annotated[str, typer.Option("--format", help="png, jpg, webp or tif.")] = "png",
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Generate one image for each seed, SEED.png in the folder, and print where each one is.

    A seed gives the same person on every machine, whatever the other seeds are.
    """
    import torch

    from sdic import images
    from sdic.runtime.backends import resolve_device

    ending = options.picture_suffix(suffix)
    targets = {seed: out / f"{seed:06d}{ending}" for seed in parse_seeds(seeds)}
    check_targets(targets.values(), overwrite=overwrite)
    network = options.make_generator(generator, checkpoint, resolve_device(device))
    side = network.check_size(size)
    written = []
    with torch.inference_mode():
        for seed, path in targets.items():
            latents = network.broadcast(network.sample(1, seed, truncation))
            pixels = images.to_uint8(network(latents, side))[0]
            images.write(path, pixels, edited=False, generated=True)
            written.append({"seed": seed, "file": str(path)})
            if not as_json:
                say(str(path))
    if as_json:
        settings = {"generator": generator, "truncation": truncation, "size": side}
        typer.echo(json.dumps({**settings, "images": written}, indent=1))


def parse_seeds(text: str) -> list[int]:
    """Seeds from a text like "0-7" or "3,5,10-12", in its order, each once.

    Raises:
        InputError: the text is something else, or names more than 100,000 seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise InputError(
                f"'{text}' names no seeds; expected something like 0-7 or 3,5,10-12, "
                "with ranges that run upwards."
            )
        if len(seeds) + last - first + 1 > MAX_SEEDS:
            raise InputError(f"'{text}' names more than {MAX_SEEDS} seeds; run it in parts.")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return list(seeds)
