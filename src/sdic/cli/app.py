"""The application that all verbs hang on, and the one place where errors become messages."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from sdic.errors import SdicError
from sdic.runtime.allocator import tune_allocator

app = typer.Typer(
    name="sdic",
    help="Edit a real photograph of a face and keep the person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Entry point of the `sdic` command: an SdicError becomes one line and exit code 1."""
    tune_allocator()
    try:
        app()
    except SdicError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False
        )
        sys.exit(1)
