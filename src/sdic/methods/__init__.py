"""Inversion methods: one file for each, all under one contract (`methods.base`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sdic import generators
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.losses import perceptual
from sdic.methods import optimisation, pti
from sdic.methods.base import Inversion, Inverter
from sdic.methods.edit_first import EditFirstSDIC
from sdic.methods.optimisation import Optimisation
from sdic.methods.pti import PTI
from sdic.methods.published import load_published
from sdic.methods.sdic import SDIC
from sdic.methods.storage import load_inversion, save_inversion
from sdic.methods.trained import load_e4e, load_exported, load_sdic
from sdic.runtime.backends import (
    accelerate,
    accelerate_network,
    differentiable,
    resolve_backend,
)
from sdic.runtime.delegating import original
from sdic.weights.exported import is_exported

__all__ = [
    "DEFAULT",
    "Inversion",
    "Inverter",
    "Method",
    "create",
    "get",
    "load_inversion",
    "names",
    "open_checkpoint",
    "refiner",
    "save_inversion",
]

DEFAULT = "sdic"


@dataclass(frozen=True)
class Method:
    """An entry of the shelf.

    Attributes:
        name: key in the registry.
        summary: one line for a table.
        make: builds it on a generator.
        optimises: it needs the generator's gradients, and takes minutes where others take a second.
        of_sdic: makes it of an SDIC, of whose edits it has a rule of its own.
    """

    name: str
    summary: str
    make: Callable[[Generator], Inverter]
    optimises: bool = False
    of_sdic: Callable[[SDIC], SDIC] | None = None


def _sdic_by_rule(name: str, summary: str, release: float = 0.0, kind: type[SDIC] = SDIC) -> Method:
    """The entry of an SDIC with edits by a rule instead of the trained transfer.

    Args:
        name: see `Method`.
        summary: see `Method`.
        release: of eq. 6, see `Inverter.release`.
        kind: SDIC, or one with an order of its own.
    """

    def of_sdic(trained: SDIC) -> SDIC:
        inverter = kind(trained.generator, trained.encoder, trained.dipn, trained.dicn)
        inverter.name, inverter.preset, inverter.release = name, trained.preset, release
        return inverter

    return Method(name, summary, lambda generator: of_sdic(load_sdic(generator)), of_sdic=of_sdic)


def _perceptual(generator: Generator) -> perceptual.PerceptualLoss:
    """The perceptual loss of the methods that optimise, on the generator's device."""
    network = perceptual.create()
    network.to(generator.mean_latent.device)
    return network


def refiner(generator: Generator) -> Optimisation:
    """Optimisation of F and w+ that goes on from any method's inversion (`Optimisation.refine`)."""
    inverter = Optimisation(original(generator), perceptual=_perceptual(generator))
    inverter.guide = differentiable(generator)
    return inverter


def _optimise(space: str) -> Callable[[Generator], Inverter]:
    def make(generator: Generator) -> Inverter:
        settings = optimisation.PRESETS[f"optimisation-{space}"]
        return Optimisation(original(generator), settings, _perceptual(generator))

    return make


def _pti(preset: str) -> Callable[[Generator], Inverter]:
    def make(generator: Generator) -> Inverter:
        inverter = PTI(original(generator), pti.PRESETS[preset], _perceptual(generator))
        inverter.name = preset
        return inverter

    return make


_METHODS = {
    method.name: method
    for method in (
        Method("sdic", "encoder, then compensation of w and F by DIPN and DICN", load_sdic),
        _sdic_by_rule("sdic-eq6", "as sdic, with edits by the letter of eq. 6"),
        _sdic_by_rule(
            "sdic-release",
            "as sdic, with edits by eq. 6 that release the compensation where much changes",
            release=0.7,
        ),
        _sdic_by_rule(
            "sdic-edit-first",
            "as sdic, but edited before the compensation (figure 4c of the paper)",
            kind=EditFirstSDIC,
        ),
        Method("e4e", "the encoder alone", load_e4e),
        Method("optimisation-w", "one code for all rows, by descent", _optimise("w"), True),
        Method("optimisation-w+", "a code for each row, by descent", _optimise("w+"), True),
        Method("optimisation-f", "w, then F and w+, by descent", _optimise("f"), True),
        Method("pti", "w, then the generator itself, by descent", _pti("pti"), True),
        Method(
            "pti-locality",
            "as pti, and faces near the photo's stay as the generator makes them",
            _pti("pti-locality"),
            True,
        ),
        Method(
            "pti-published",
            "as pti, with the published steps and rates",
            _pti("pti-published"),
            True,
        ),
    )
}


def names() -> list[str]:
    """Keys of all methods that `create` knows."""
    return list(_METHODS)


def get(name: str) -> Method:
    """The registry's entry of a method.

    Raises:
        InputError: no method has this key.
    """
    if name not in _METHODS:
        raise InputError(f"There is no method '{name}'; known are: {', '.join(_METHODS)}.")
    return _METHODS[name]


def create(
    name: str = DEFAULT,
    generator: str | Generator = "mobile",
    *,
    checkpoint: str | Path | None = None,
    backend: str = "auto",
    device: str = "cpu",
) -> Inverter:
    """An inversion method by its key, ready to run.

    Args:
        name: key of the method.
        generator: key of the generator, or the generator itself.
        checkpoint: for "e4e", and "sdic" with its rules, an official file, on "stylegan2", or one
            that `sdic train export` made, on the generator it was trained for; for the methods
            that optimise a StyleGAN2 file.
        backend: how generator and networks are run, see `runtime.backends.resolve_backend`.
        device: a torch device.

    Raises:
        InputError: an unknown key, or arguments that do not belong together.
        WeightsError: weights cannot be fetched or read.
    """
    method = get(name)
    if checkpoint is not None and not method.optimises:
        inverter = _read_checkpoint(checkpoint)
        if method.of_sdic is not None and isinstance(inverter, SDIC):
            inverter = method.of_sdic(inverter)
        if inverter.name != name:
            raise InputError(
                f"{checkpoint} is a file of the method '{inverter.name}', not '{name}'; choose "
                f"--method {inverter.name}, or give another file."
            )
        return _on_backend(inverter, backend, device)
    if isinstance(generator, str):
        generator = generators.create(generator, checkpoint)
    backend = resolve_backend(generator, backend, device)
    return _on_backend(method.make(generator.to(device)), backend, device)


def open_checkpoint(
    checkpoint: str | Path, *, backend: str = "auto", device: str = "cpu"
) -> Inverter:
    """The method of a trained or published file, whichever it is, ready to run; see `create`.

    Raises:
        InputError: there is no such file, or no such backend.
        WeightsError: the file cannot be read, or does not fit.
    """
    return _on_backend(_read_checkpoint(checkpoint), backend, device)


def _read_checkpoint(checkpoint: str | Path) -> Inverter:
    path = Path(checkpoint)
    return load_exported(path) if is_exported(path) else load_published(checkpoint)


def _on_backend(inverter: Inverter, backend: str, device: str) -> Inverter:
    """The inverter with its generator and its networks run by a backend."""
    backend = resolve_backend(inverter.generator, backend, device)
    accelerated = accelerate(inverter.generator, backend, device)
    if isinstance(inverter, (Optimisation, PTI)):
        inverter.guide = differentiable(accelerated)
    else:
        inverter.generator = accelerated
    inverter.replace_networks(lambda network: accelerate_network(network, backend, device))
    return inverter
