"""What guards a run's folder and its end: one process at a time, and signals that end it well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdic.errors import TrainingError


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one process may train into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(
            f"Another process trains into {out}; wait for it or choose another --out."
        ) from error
    except OSError as error:
        raise TrainingError(
            f"The run's folder {out} cannot be written ({error.strerror}); choose another --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the run ends with a checkpoint.

    A second signal ends the process at once, as usual.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
