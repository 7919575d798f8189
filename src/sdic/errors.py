"""Errors that a user may meet. Each message says what happened, what was expected, what to do."""

from __future__ import annotations

import os
import unicodedata


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


def printable(text: str | os.PathLike[str]) -> str:
    r"""A file's name, or a text, in one line that cannot steer a terminal.

    What is no letter, sign or space is escaped: control characters, marks that turn the direction
    of text, and bytes that are not UTF-8 become `\x1b`, `\u202e`, `\udcff` and the like.
    """
    return "".join(
        one
        if one.isprintable() or unicodedata.category(one) == "Zs"
        else one.encode("unicode_escape").decode("ascii")
        for one in os.fspath(text)
    )
