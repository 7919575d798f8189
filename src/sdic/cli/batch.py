"""Run a verb over many files: go on after a failure, tell all failures at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdic.errors import SdicError
from sdic.runtime.allocator import release_memory


def run_batch(
    paths: Sequence[Path], work: Callable[[Path], dict[str, object]], as_json: bool = False
) -> None:
    """Do `work` on each file, and print what it returns on standard output as soon as it is there.

    With `as_json` each file gives one line of JSON: "file" and the result, or "file" and "error".
    Otherwise a result is a line of text. Failures are listed at the end on standard error, where
    a terminal also sees the progress.

    Raises:
        typer.Exit: with code 1, if any file failed.
    """
    errors = Console(stderr=True, soft_wrap=True)
    failures: list[tuple[Path, str]] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal or len(paths) < 2,
        redirect_stdout=not as_json,
    ) as progress:
        task = progress.add_task("", total=len(paths))
        for path in paths:
            progress.update(task, description=escape(path.name))
            try:
                result = work(path)
            except SdicError as error:
                failures.append((path, str(error)))
                result = {"error": str(error)}
            if as_json:
                typer.echo(json.dumps({"file": str(path), **result}))
            elif "error" not in result:
                typer.echo(f"{path}: " + ", ".join(_as_text(*item) for item in result.items()))
            release_memory()
            progress.advance(task)
    if failures:
        errors.print(f"[bold red]{len(failures)} of {len(paths)} files failed:[/]", highlight=False)
        for path, reason in failures:
            named = reason if str(path) in reason else f"{path}: {reason}"
            errors.print(f"  {escape(named)}", highlight=False)
        raise typer.Exit(1)


def _as_text(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{key} {value:.4g}"
    if isinstance(value, list | tuple):
        return f"{key} {' '.join(map(str, value))}"
    return f"{key} {value}"
