"""Inversion methods: one file for each, all under one contract (`methods.base`).

A file declares its methods in `METHODS`; every file of this folder is looked at, so a new method is
on the shelf as soon as its file is there.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from sdic import generators
from sdic.errors import InputError, WeightsError
from sdic.generators.base import Generator
from sdic.methods import official
from sdic.methods.base import Inversion, Inverter
from sdic.methods.declaration import Method
from sdic.methods.optimisation import Optimisation, refiner
from sdic.methods.storage import load_inversion, save_inversion
from sdic.runtime.backends import resolve_backend
from sdic.weights import exported
from sdic.weights.unfilled import Unfilled

__all__ = [
    "DEFAULT",
    "Inversion",
    "Inverter",
    "Method",
    "Optimisation",
    "create",
    "get",
    "load_inversion",
    "names",
    "open_checkpoint",
    "refiner",
    "save_inversion",
    "shelf",
]

DEFAULT = "sdic"


@cache
def shelf() -> dict[str, Method]:
    """All methods by name, in the order of their files; the default first."""
    found: list[Method] = []
    for module in pkgutil.iter_modules(__path__):
        found += getattr(import_module(f"{__name__}.{module.name}"), "METHODS", ())
    return {method.name: method for method in sorted(found, key=lambda m: m.name != DEFAULT)}


def names() -> list[str]:
    """Keys of all methods that `create` knows."""
    return list(shelf())


def get(name: str) -> Method:
    """The registry's entry of a method.

    Raises:
        InputError: no method has this key.
    """
    if name not in shelf():
        raise InputError(f"There is no method '{name}'; known are: {', '.join(shelf())}.")
    return shelf()[name]


def create(
    name: str = DEFAULT,
    generator: str | Generator | None = None,
    *,
    checkpoint: str | Path | None = None,
    backend: str = "auto",
    device: str = "cpu",
) -> Inverter:
    """An inversion method by its key, ready to run.

    Args:
        name: key of the method.
        generator: key of the generator, or the generator itself; None is that of the checkpoint,
            or "mobile".
        checkpoint: an official file of the method, or one that `sdic train export` made, which
            bring their own generator; for the methods that iterate a StyleGAN2 file.
        backend: how generator and networks are run, see `runtime.backends.resolve_backend`.
        device: a torch device.

    Raises:
        InputError: an unknown key, or arguments that do not belong together.
        WeightsError: weights cannot be fetched or read.
    """
    method = get(name)
    if checkpoint is not None and not method.iterates:
        return _of_checkpoint(method, checkpoint, generator).on_backend(backend, device)
    if not isinstance(generator, Generator):
        generator = generators.create(generator or "mobile", checkpoint)
    resolve_backend(generator, backend, device)
    with Unfilled():
        inverter = method.build(generator.to(device))
    return inverter.on_backend(backend, device)


def open_checkpoint(
    checkpoint: str | Path, *, backend: str = "auto", device: str = "cpu"
) -> Inverter:
    """The method of a trained or published file, whichever it is, ready to run; see `create`.

    Raises:
        InputError: there is no such file, or no such backend.
        WeightsError: the file cannot be read, or does not fit.
    """
    return _read_checkpoint(checkpoint).on_backend(backend, device)


def convert_checkpoint(path: str | Path, out: str | Path) -> official.Conversion:
    """Convert an official checkpoint to one safetensors file; see `official.convert_checkpoint`.

    Raises:
        InputError, WeightsError: see there.
    """
    return official.convert_checkpoint(path, out, list(shelf().values()))


def _of_checkpoint(
    method: Method, checkpoint: str | Path, generator: str | Generator | None
) -> Inverter:
    """The method of a file, checked against what was asked for."""
    inverter = _read_checkpoint(checkpoint)
    if method.rule is not None and inverter.name == DEFAULT:
        inverter = method.rule(inverter)
    if inverter.name != method.name:
        raise InputError(
            f"{checkpoint} is a file of the method '{inverter.name}', not '{method.name}'; choose "
            f"--method {inverter.name}, or give another file."
        )
    asked = generator.name if isinstance(generator, Generator) else generator
    if isinstance(generator, Generator) or asked not in (None, inverter.generator.name):
        raise InputError(
            f"{checkpoint} brings its own generator, '{inverter.generator.name}', and the "
            f"generator '{asked}' was given, too; leave one of them out."
        )
    return inverter


def _read_checkpoint(checkpoint: str | Path) -> Inverter:
    path = Path(checkpoint)
    with Unfilled():
        return _built_of(path)


def _built_of(path: Path) -> Inverter:
    if not exported.is_exported(path):
        return official.load_official(path, list(shelf().values()))
    trained = exported.read(path)
    task = trained.recipe.get("task")
    for method in shelf().values():
        if method.from_export is not None and task in method.tasks:
            return method.from_export(trained, path)
    raise WeightsError(
        f"{path} was trained for the task '{task}', of which no method is known; export it again "
        "with the version of sdic that trained it."
    )
