"""What reaches the terminal: names that can be shown, and failures as one sentence."""

from __future__ import annotations

import os
import traceback

import typer

from sdic.errors import SdicError
from sdic.errors import printable as printable

DEBUG = "SDIC_DEBUG"  # the variable that --debug sets
LONGEST = 2000  # characters of a sentence; a file may hold names of any length
MEMORY_WORDS = ("out of memory", "can't allocate memory", "bad_alloc")


def say(text: str) -> None:
    """A line on standard output."""
    typer.echo(printable(text))


def complain(error: BaseException) -> None:
    """An error as a line on standard error; with --debug, where it arose before that."""
    from rich.console import Console
    from rich.text import Text

    show_trace(error)
    text = Text.assemble(("error:", "bold red"), f" {printable(explain(error))}")
    Console(stderr=True, soft_wrap=True).print(text)


def show_trace(error: BaseException) -> None:
    """The traceback of an error on standard error, with --debug only."""
    if os.environ.get(DEBUG, "") not in ("", "0"):
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def explain(error: BaseException) -> str:
    """An error as one sentence: what happened, and what to do; names of any length are cut."""
    sentence = _sentence(error)
    if len(sentence) <= LONGEST:
        return sentence
    return f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"


def _sentence(error: BaseException) -> str:
    if isinstance(error, SdicError):
        return str(error)
    said = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in MEMORY_WORDS)
    ):
        return (
            "There is not enough memory for this; close other programs, make the photo smaller, "
            "or choose another --device."
        )
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"{name} cannot be used ({error.strerror}); check it and its permissions."
    reason = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    return (
        f"{reason.rstrip('.')}. This is a defect of the program; run again with `sdic --debug` to "
        "see where it arose, and report it."
    )
