"""`sdic info`: versions, devices, cache, methods: what a bug report needs."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from sdic import __version__
from sdic.cli import options

if TYPE_CHECKING:
    from sdic.methods import Method

PACKAGES = ("torch", "openvino", "numpy", "pillow", "pillow-heif", "dlib-bin", "lightning-fabric")


def info(as_json: options.AsJson = False) -> None:
    """Show versions, devices, the cache folder, methods, generators and directions."""
    facts = _facts()
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    console = Console(soft_wrap=True)
    for name, value in facts.items():
        if isinstance(value, dict):
            console.print(f"[bold]{name}[/]")
            for key, text in value.items():
                console.print(f"  {key}: {text}", highlight=False)
        else:
            text = ", ".join(value) if isinstance(value, list) else value
            console.print(f"[bold]{name}[/]: {text}", highlight=False)


def _facts() -> dict[str, object]:
    import torch

    from sdic import generators, methods, weights
    from sdic.editing.catalogue import library_file, read_descriptions
    from sdic.runtime import openvino
    from sdic.runtime.backends import resolve_device

    fetched = [name for name in weights.names() if weights.is_fetched(name)]
    return {
        "sdic": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": resolve_device(),
        "threads": torch.get_num_threads(),
        "backend on the CPU": "openvino" if openvino.is_available() else "eager",
        "cache": str(weights.cache_dir()),
        "weights in the cache": fetched,
        "generators": generators.names(),
        "methods": {name: _described(methods.get(name)) for name in methods.names()},
        "directions": sorted(read_descriptions(library_file())),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _described(method: Method) -> str:
    """What a method is, and what was measured of it."""
    return f"{method.summary}. {method.evidence}." if method.evidence else method.summary
