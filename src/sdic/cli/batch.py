"""Run a verb over many files: go on after a failure, tell all failures at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from sdic.cli.terminal import explain, printable, say, show_trace
from sdic.runtime.allocator import release_memory


def run_batch(
    paths: Sequence[Path], work: Callable[[Path], dict[str, object]], as_json: bool = False
) -> None:
    """Do `work` on each file, and print what it returns on standard output as soon as it is there.

    With `as_json` each file gives one line of JSON: "file" and the result, or "file" and "error".
    Otherwise a result is a line of text. A file that fails, for whatever reason, is left; the
    failures are listed at the end on standard error, where a terminal also sees the progress.

    Raises:
        typer.Exit: with code 1, if any file failed; with 130, if the user ended the batch.
    """
    errors = Console(stderr=True, soft_wrap=True)
    failures: list[tuple[Path, str]] = []
    done, interrupted = 0, False
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal or len(paths) < 2,
        redirect_stdout=not as_json,
    ) as progress:
        task = progress.add_task("", total=len(paths))
        try:
            for path in paths:
                progress.update(task, description=printable(path.name))
                result = _try(work, path)
                if "error" in result:
                    failures.append((path, str(result["error"])))
                if as_json:
                    typer.echo(json.dumps({"file": str(path), **result}))
                elif "error" not in result:
                    say(f"{path}: " + ", ".join(_as_text(*item) for item in result.items()))
                done += 1
                release_memory()
                progress.advance(task)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        errors.print(Text(f"Interrupted after {done} of {len(paths)} files.", "bold red"))
    if failures:
        errors.print(Text(f"{len(failures)} of {len(paths)} files failed:", "bold red"))
        for path, reason in failures:
            named = reason if str(path) in reason else f"{path}: {reason}"
            errors.print(Text(f"  {printable(named)}"))
    if failures or interrupted:
        raise typer.Exit(130 if interrupted else 1)


def _try(work: Callable[[Path], dict[str, object]], path: Path) -> dict[str, object]:
    """What `work` returns, or the sentence about its failure as "error"."""
    try:
        return work(path)
    except Exception as error:  # one bad file, or a defect that it meets, must not cost the others
        show_trace(error)
        return {"error": explain(error)}


def _as_text(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{key} {value:.4g}"
    if isinstance(value, list | tuple):
        return f"{key} {' '.join(map(str, value))}"
    return f"{key} {value}"
