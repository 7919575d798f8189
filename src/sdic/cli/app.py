"""The application that all verbs hang on, and the one place where errors become messages."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import sys
import threading
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sdic.cli import terminal
from sdic.errors import InputError
from sdic.runtime.allocator import tune_allocator
from sdic.runtime.process import spare_imports, wait_passively

# The verbs in the order of the help, with the first sentence of each, so that showing them imports
# none. A verb is `sdic.cli.VERB`: the function VERB, or VERB_app where it has verbs of its own.
VERBS = {
    "demo": "Invert a sample photo, edit it four times, put it back: one picture of all of it.",
    "edit": "Edit faces and put them back into their photos.",
    "invert": "Invert the faces of photos: NAME.sdic.safetensors, and NAME.png to look at.",
    "animate": "Invert a face once, and render it while the strengths run.",
    "align": "Cut the faces of photos out as FFHQ does: NAME.png, and NAME.json that says where it "
    "lay.",
    "generate": "Generate one image for each seed, SEED.png in the folder, and print where each "
    "one is.",
    "directions": "List, preview, fit and import directions of edits.",
    "train": "Train a method: `sdic train RECIPE --data DIR --out RUN`; the same command goes on.",
    "benchmark": "Measure methods: fidelity, identity, seconds, memory, and what edits do.",
    "weights": "List, fetch and verify pretrained weights.",
    "info": "Show versions, devices, the cache folder, methods, generators and directions.",
}
_STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "rich",
}


class _Verbs(TyperGroup):
    """The verbs, of which the one that is called takes the place of its summary."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if "" in args:
            raise InputError(
                "An argument is empty; leave it out or give it a value (a variable of the shell "
                "may not be set)."
            )
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name in VERBS else command, rest


app = typer.Typer(
    cls=_Verbs,
    name="sdic",
    help="Edit a real photograph of a face and keep the person.",
    no_args_is_help=True,
    **_STYLE,
)


@app.callback()
def _global_options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error arose.")
    ] = False,
) -> None:
    if debug:
        os.environ[terminal.DEBUG] = "1"


def _summary() -> None:
    """Stands for a verb that is not imported."""


for _name, _text in VERBS.items():
    app.command(_name, help=_text)(_summary)


def load_verb(name: str) -> Any:
    """Import a verb of `VERBS`: its command, ready to be called."""
    module = import_module(f"sdic.cli.{name}")
    verb = getattr(module, f"{name}_app", None)
    if verb is None:
        verb = typer.Typer(**_STYLE)
        verb.command(name)(getattr(module, name))
    command = typer.main.get_command(verb)
    command.name = name
    return command


def main() -> None:
    """Entry point of the `sdic` command: an error becomes one sentence and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    wait_passively()
    spare_imports()
    if not sys.warnoptions:  # what libraries say of files and of each other is not for the user
        warnings.simplefilter("ignore")
    tune_allocator()
    try:
        app()
    except Exception as error:
        terminal.complain(error)
        sys.exit(1)
    finally:
        _flush()


def command() -> None:
    """The `sdic` command as a process of its own: `main`, and then no time for taking apart.

    What the process holds (networks, compiled graphs) is given back by the system at once; to free
    it piece by piece would take a tenth of a short command. What was to be written is written.
    """
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    if threading.active_count() > 1 or multiprocessing.active_children():
        sys.exit(code)  # somebody is still at work
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _flush() -> None:
    """Write out what is left, without a word where nobody reads on (`sdic ... | head`)."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
