"""Kill -9 at random moments: nothing that was there is lost, nothing is half-written.

    PYTHONPATH=tests python -m fuzz.kills --count 100 --seed 1

Each command is run by a fork of this process, so a kill meets its work, not its imports. Flushing
to the disk is slowed down, so that many kills strike where files change.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from unittest import mock

import torch

from sdic.cli.app import load_verb
from sdic.files import LEFTOVERS
from sdic.training import checkpoint
from sdic.weights import client
from sdic.weights.cache import Entry
from training.toy import toy_recipe, trainer
from weights.conftest import Shop, source_package

from .world import BrokenError, World, call, check_whole

PAUSE = 0.01  # seconds before and after each flush to the disk
# What a kill may leave beside results: of files, of a fetch, of a checkpoint.
TRACES = (LEFTOVERS, ".staging-*", ".*.lock", ".checkpoint-*", "*.lock")
STEPS = 12  # of the toy's training


@dataclass
class Victim:
    """A command that is killed.

    Attributes:
        run: does it, from the start or from where it was killed.
        check: raises where what it leaves is not whole; told whether it came to its end.
        seconds: that it takes.
    """

    run: Callable[[], object]
    check: Callable[[bool], object]
    seconds: float = 0.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class Victims:
    """The commands, in a folder of their own, and a registry of packages that one of them asks."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # a fork has no other threads
        for verb in ("edit", "invert", "animate"):
            load_verb(verb)  # here, or each fork would import it
        self.world = World(folder / "world")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        smile = f"-e {self.world.directions}:smile="
        photo, inversion, out = self.world.photo, self.world.inversion, self.world.out
        self.victims = {
            "edit": self._command(f"edit {photo} {inversion} {smile}1 --overwrite --out {out}"),
            "invert": self._command(f"invert {photo} --overwrite --out {out}"),
            "animate": self._command(
                f"animate {photo} {smile}0:1 --frames 3 --overwrite --out {out}/a.gif"
            ),
            "fetch": self._fetch(folder),
            "train": self._train(folder / "trained"),
        }
        for name, victim in self.victims.items():
            for _ in range(2):  # the first one imports what it needs
                began = time.monotonic()
                if self._forked(victim.run, None) != 0:
                    raise BrokenError(f"{name} does not even work")
                victim.seconds = time.monotonic() - began
                victim.check(True)

    def _command(self, line: str) -> Victim:
        words = line.split()

        def check(ended: bool) -> None:
            for path in self.world.out.iterdir():
                if not _is_trace(path):
                    check_whole(path, line)

        def run() -> None:
            with self.world.sealed(), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                try:
                    call(words)
                except SystemExit as end:
                    if end.code:
                        raise

        return Victim(run, check)

    def _fetch(self, folder: Path) -> Victim:
        file = source_package(folder / "simple" / "demo" / "demo-1.0.tar.gz", folder / "ran")
        shop = Shop.of_source(file, folder / "weights")
        (file.parent / "index.html").write_text(f'<a href="{file.name}">')
        settings = {"index-url": f"http://127.0.0.1:{self.server.server_port}/simple"}

        def fetch() -> None:
            with mock.patch.object(client.simple_index, "pip_settings", return_value=settings):
                shop.fetch("net", again=True)

        def check(ended: bool) -> None:
            entry = Entry.of(shop.weight("net"), shop.folder)
            if ended or entry.is_whole():
                entry.verify()
            if (folder / "ran").exists():
                raise BrokenError("the package's own code ran")

        return Victim(fetch, check)

    def _train(self, run: Path) -> Victim:
        recipe = toy_recipe(steps=STEPS, log__checkpoint=2)
        reached = [0]

        def check(ended: bool) -> None:
            latest = checkpoint.latest(run)
            step = checkpoint.load(latest)[0] if latest else 0
            if step < reached[0] or (ended and step != STEPS):
                raise BrokenError(f"at step {reached[0]} before, now at {step}")
            reached[0] = step
            if ended:
                shutil.rmtree(run)
                reached[0] = 0

        return Victim(lambda: trainer(run, recipe).train(), check)

    def kill(self, name: str, random: Random) -> bool:
        """Kill a command at a random moment, look at what is left, and let it come to its end.

        Returns:
            Whether it was still at work when the signal came.

        Raises:
            BrokenError: something is lost, half-written or in the way.
        """
        victim = self.victims[name]
        inputs = self.world.state()
        killed = self._forked(victim.run, random.uniform(0, 1.1 * victim.seconds)) != 0
        for ended in (False, True):
            if ended and self._forked(victim.run, None) != 0:
                raise BrokenError(f"{name} does not work after a kill")
            try:
                victim.check(ended)
            except BrokenError:
                raise
            except Exception as error:
                raise BrokenError(f"{name} left damage: {error!r}") from error
            if self.world.state() != inputs:
                raise BrokenError(f"{name} changed what it reads")
        return killed

    def _forked(self, run: Callable[[], object], seconds: float | None) -> int:
        """Run something in another process, killed after some seconds: its exit status."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                flush = os.fsync
                with mock.patch("os.fsync", lambda file: (_pause(), flush(file), _pause())):
                    run()
                status = 0
            finally:
                os._exit(status)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _pause() -> None:
    time.sleep(PAUSE)


def _is_trace(path: Path) -> bool:
    return any(fnmatch.fnmatch(path.name, trace) for trace in TRACES)


def main() -> int:
    """Kill, and print how often what was met."""
    options = argparse.ArgumentParser(prog="fuzz.kills")
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        victims = Victims(Path(folder).resolve())
        for i in range(given.count):
            name = list(victims.victims)[i % len(victims.victims)]
            try:
                met = victims.kill(name, Random(f"{given.seed}-{i}"))
                counts[f"{name}: {'killed at work' if met else 'was done'}"] += 1
            except BrokenError as broken:
                counts[f"{name}: BROKEN"] += 1
                print(f"--- kill {i}: {broken}", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{name} {count}")
    return int(any(name.endswith("BROKEN") for name in counts))


if __name__ == "__main__":
    raise SystemExit(main())
