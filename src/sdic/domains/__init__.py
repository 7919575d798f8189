"""Domains: what a generator shows (faces, …), and all that depends on it; one record each.

A method, a loss or a metric asks the domain of its generator instead of knowing faces. Records hold
plain numbers and the keys of networks, so this package imports none of them.
"""

from __future__ import annotations

from sdic.domains.base import Domain, Focus
from sdic.domains.faces import FACES
from sdic.errors import InputError

__all__ = ["FACES", "Domain", "Focus", "get", "names"]

_DOMAINS = {domain.name: domain for domain in (FACES,)}


def names() -> list[str]:
    """Keys of all domains."""
    return list(_DOMAINS)


def get(name: str) -> Domain:
    """A domain by its key.

    Raises:
        InputError: there is no such domain.
    """
    if name not in _DOMAINS:
        raise InputError(f"There is no domain '{name}'; known are: {', '.join(_DOMAINS)}.")
    return _DOMAINS[name]
