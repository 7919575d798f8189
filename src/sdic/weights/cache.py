"""The cache folder: finished weights, each with a record of its size and hash, written last.

A data file without a fitting record is not a weight, so nothing half-written is taken for whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sdic.errors import WeightsError
from sdic.files import write_whole
from sdic.weights.registry import FetchedWeight

CHUNK = 1 << 20  # bytes read at a time
# Raise it when a converter writes other tensors than before: caches are then made anew.
CONVERSION_REVISION = 1
ADVICE = "free some space, or set SDIC_CACHE to a folder on another disk"


def cache_dir() -> Path:
    """The project's cache folder: `SDIC_CACHE` if set, else the platform's; it may not exist.

    Raises:
        WeightsError: `SDIC_CACHE` names the home folder of a user who is not there.
    """
    chosen = os.environ.get("SDIC_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("sdic"))
    except RuntimeError:
        raise WeightsError(
            f"SDIC_CACHE is {chosen}, but there is no such home folder; set it to another folder."
        ) from None


def weights_dir() -> Path:
    """The folder of weights inside the cache folder."""
    return cache_dir() / "weights"


def file_sha256(path: Path) -> str:
    """Sha256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def os_errors_as_sentences(folder: Path) -> Iterator[None]:
    """Turn an OSError of the file system below `folder` into a WeightsError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(
                f"The disk is full, so the weights cannot be written to {folder}; free some "
                "space, or set SDIC_CACHE to a folder on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WeightsError(
                f"The cache folder {folder} cannot be written to; make it writable, or set "
                "SDIC_CACHE to another folder."
            ) from error
        raise WeightsError(
            f"The cache folder {folder} cannot be used ({error.strerror or error}); check it, or "
            "set SDIC_CACHE to another folder."
        ) from error


@dataclass(frozen=True)
class Entry:
    """The place of one finished weight in the cache.

    The name of its file changes with the hashes of its source and with its converter, so a newer
    registry never meets an older file.
    """

    weight: FetchedWeight
    data: Path
    record: Path

    @classmethod
    def of(cls, weight: FetchedWeight, folder: Path) -> Entry:
        """The entry of a weight in a folder of weights."""
        source = [weight.archive.sha256, *(member.sha256 for member in weight.members)]
        recipe = ":".join([*source, weight.converter, str(CONVERSION_REVISION)])
        stem = f"{weight.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
        kept = weight.converter == "keep"
        suffix = Path(weight.members[0].path).suffix if kept else ".safetensors"
        return cls(weight, folder / f"{stem}{suffix}", folder / f"{stem}.json")

    def is_whole(self) -> bool:
        """Cheap check: there is a record, the size fits it, and the tensor header is sound."""
        try:
            size = self._recorded()["size"]
            if self.data.stat().st_size != size:
                return False
            if self.data.suffix == ".safetensors":
                with safe_open(self.data, framework="pt"):
                    pass
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return False
        return True

    def is_present(self) -> bool:
        """Whether anything of this weight, whole or not, lies in the cache."""
        return self.data.exists() or self.record.exists()

    def verify(self) -> None:
        """Hash the whole file and compare.

        Raises:
            WeightsError: the weight is not in the cache, or not as it was written.
        """
        name = self.weight.name
        if not self.is_present():
            raise WeightsError(
                f"The weight '{name}' has not been fetched yet; run `sdic weights fetch {name}`."
            )
        if not self.is_whole() or file_sha256(self.data) != self._recorded()["sha256"]:
            raise WeightsError(
                f"The weight '{name}' is damaged in the cache; run `sdic weights fetch --again "
                f"{name}` to fetch it anew."
            )

    def store_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors as safetensors, then the record; each appears whole or not at all."""
        payload = save({key: value.contiguous() for key, value in tensors.items()})
        self.record.unlink(missing_ok=True)
        write_whole(self.data, payload, WeightsError, ADVICE)
        self._write_record(hashlib.sha256(payload).hexdigest())

    def store_file(self, file: Path) -> None:
        """Move a file of the same file system into the cache, then write the record."""
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
        digest = file_sha256(file)
        self.record.unlink(missing_ok=True)
        os.replace(file, self.data)
        self._write_record(digest)

    def _recorded(self) -> dict[str, str | int]:
        record = json.loads(self.record.read_text(encoding="utf-8"))
        return {"size": int(record["size"]), "sha256": str(record["sha256"])}

    def _write_record(self, sha256: str) -> None:
        archive = self.weight.archive
        record = {
            "weight": self.weight.name,
            "licence": self.weight.licence,
            "package": f"{archive.package} {archive.version}",
            "archive_sha256": archive.sha256,
            "converter": self.weight.converter,
            "size": self.data.stat().st_size,
            "sha256": sha256,
        }
        write_whole(self.record, json.dumps(record, indent=1).encode(), WeightsError, ADVICE)
