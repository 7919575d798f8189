"""Errors that a user may meet. Each message says what happened, what was expected, what to do."""

from __future__ import annotations

import os


class SdicError(Exception):
    """Base of every error that is shown to the user as one sentence, without a traceback."""


class InputError(SdicError):
    """A file, folder or value given by the user cannot be used."""


class NoFaceError(InputError):
    """No face, or not the face asked for, was found in a photo."""


class WeightsError(SdicError):
    """A weight file cannot be fetched, verified, read or converted."""


class TrainingError(SdicError):
    """A training run cannot go on: bad recipe, foreign checkpoint, or a loss that is not finite."""


def printable(path: str | os.PathLike[str]) -> str:
    r"""A file's name for a message: what a terminal would obey, or cannot show, is escaped.

    Control characters, marks that turn the direction of text, and bytes that are not UTF-8 become
    `\x1b`, `\u202e` and the like. Other names stay as they are.
    """
    return "".join(map(_shown, os.fspath(path)))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "replace").decode("ascii")
