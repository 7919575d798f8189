"""Generators: a shelf of pretrained networks under one contract (`generators.base`)."""

from __future__ import annotations

from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN

__all__ = ["Generator", "create", "names"]


def names() -> list[str]:
    """Keys of all generators that `create` knows."""
    return ["mobile"]


def create(name: str = "mobile") -> Generator:
    """A pretrained generator by its key, frozen, on the CPU; its weights are fetched if needed.

    Raises:
        InputError: no generator has this key.
        WeightsError: its weights cannot be fetched or read.
    """
    from sdic import weights

    if name != "mobile":
        raise InputError(f"There is no generator '{name}'; known are: {', '.join(names())}.")
    generator = MobileStyleGAN()
    generator.load_state_dict(weights.load("mobile"))
    return generator.freeze()
