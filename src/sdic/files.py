"""Bytes to disk, whole or not at all; tensors in and out of safetensors files.

A file is written beside its place under a short name of its own (`.sdic-….part`), flushed, and
then moved there, so a reader never meets half of one. Nothing is written through a link, and what
is no plain file (a device, a pipe, a folder) is never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdic.errors import InputError, SdicError, printable

if TYPE_CHECKING:
    from torch import Tensor

LEFTOVERS = ".sdic-*.part"
LEFTOVER_AGE = 3600.0  # seconds after which a partial file counts as left behind by a kill


@contextmanager
def whole(path: Path, error: type[SdicError] = InputError, advice: str = "") -> Iterator[Path]:
    """A place to write a file to, which becomes `path` when the block ends without an exception.

    Missing folders are made. Partial files that a kill left in the folder are removed.

    Args:
        path: the file; an older one is replaced.
        error: raised for what the file system refuses.
        advice: what to do, in the error's sentence; by default to choose another place.

    Raises:
        SdicError: `error`, if the place cannot be written to, is a link, or is no plain file.
    """
    temporary = _place(path, error, advice)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as problem:
        raise error(_sentence(path, problem, advice)) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(path: Path, error: type[SdicError] = InputError) -> None:
    """Raise `error` unless a file can be written at `path`; for before long work. Folders are made.

    Raises:
        SdicError: as said.
    """
    temporary = _place(path, error, "")
    try:
        temporary.touch()
    except OSError as problem:
        raise error(_sentence(path, problem, "")) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def make_folder(folder: Path, error: type[SdicError] = InputError) -> None:
    """Make a folder and those above it, where they are missing; remove what a kill left in it.

    Raises:
        SdicError: `error`, if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
    except OSError as problem:
        raise error(_sentence(folder / "file", problem, "")) from problem


def write_whole(
    path: Path, data: bytes, error: type[SdicError] = InputError, advice: str = ""
) -> None:
    """Write a file whole or not at all; see `whole`.

    Raises:
        SdicError: see `whole`.
    """
    with whole(path, error, advice) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, error: type[SdicError] = InputError) -> None:
    """Write a value as JSON, whole or not at all; see `whole`.

    Raises:
        SdicError: see `whole`.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # The bytes of a file name that is not UTF-8 become JSON's own escapes.
    write_whole(path, text.encode(errors="backslashreplace"), error)


def check_replaceable(path: Path, error: type[SdicError] = InputError) -> None:
    """Raise `error` unless a file may be written at `path`: nothing, or a plain file, lies there.

    Raises:
        SdicError: as said.
        OSError: the folder cannot be looked into.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}
    found = kinds.get(stat.S_IFMT(mode), "no plain file")
    raise error(
        f"Cannot write {printable(path)}: there is {found} with this name; choose another one."
    )


def check_readable(path: Path, what: str, error: type[SdicError] = InputError) -> None:
    """Raise `error` unless `path` is a plain file that may be read; reading a pipe might not end.

    Args:
        path: the file.
        what: it was expected to be, e.g. "file of directions".
        error: what is raised.

    Raises:
        SdicError: as said.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"There is no {what} at {printable(path)}; check the path.") from None
    except PermissionError:
        mode = None
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the name
        raise error(
            f"There cannot be a {what} at {printable(path)} ({problem}); check the path."
        ) from None
    if mode is not None and not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "no plain file"
        raise error(f"{printable(path)} is {found}; expected a {what}.")
    if mode is None or not os.access(path, os.R_OK):
        raise error(f"The {what} at {printable(path)} may not be read; change its permissions.")


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    error: type[SdicError] = InputError,
    advice: str = "",
) -> None:
    """Write tensors, from any device and with shared memory or not, as one safetensors file.

    Raises:
        SdicError: see `whole`.
    """
    from safetensors.torch import save

    # Cloned, since safetensors refuses views and tensors that share memory.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_whole(path, save(plain, dict(metadata or {})), error, advice)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, on the CPU.

    Raises:
        OSError, SafetensorError: there is no such file, or it is none.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        # The file is no mapping: it has keys, and cannot be iterated.
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors and without loading PyTorch.

    Raises:
        OSError, SafetensorError: there is no such file, or it is none.
    """
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return file.metadata() or {}


def _place(path: Path, error: type[SdicError], advice: str) -> Path:
    """A place beside `path` for what shall become it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_replaceable(path, error)
        _remove_leftovers(path.parent)
    except OSError as problem:
        raise error(_sentence(path, problem, advice)) from problem
    except ValueError as problem:  # a zero byte, or half a character
        raise error(f"Cannot write {str(path)!r}: no file can have this name.") from problem
    return path.parent / f".sdic-{secrets.token_hex(6)}.part"


def _remove_leftovers(folder: Path) -> None:
    now = time.time()
    for partial in folder.glob(LEFTOVERS):
        with contextlib.suppress(OSError):
            if now - partial.lstat().st_mtime > LEFTOVER_AGE:
                partial.unlink()


def _sentence(path: Path, problem: OSError, advice: str) -> str:
    place, folder = printable(path), printable(path.parent)
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        reason, cure = "the disk is full", "free some space or choose another folder"
    elif problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"the folder {folder} may not be written to"
        cure = "choose another one"
    elif problem.errno == errno.ENAMETOOLONG:
        reason, cure = "the name is too long for the file system", "choose a shorter one"
    elif isinstance(problem, FileExistsError | NotADirectoryError):
        reason, cure = f"{folder} is not a folder", "choose another place"
    else:
        reason, cure = problem.strerror or str(problem), "choose another place"
    return f"Cannot write {place}: {reason}; {advice or cure}. Nothing was written."
