"""The files that a run writes: named, checked and reserved before the first pixel is computed.

A result never takes the place of a source or of another result, and that of a file that was there
before only where the user says so (--overwrite).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from sdic.errors import InputError
from sdic.files import check_replaceable

LONGEST = 255  # bytes of a file's name that nearly every file system takes
INVERSION_SUFFIX = ".sdic.safetensors"  # as `methods.storage` has it, which is slow to import
_ROOM = len("_999-999")  # bytes for the number of a result and of a name
_MEMBER = re.compile(r"(.*)_(0|[1-9][0-9]*)", re.DOTALL)

Identity = tuple[int, int]  # device and number of a file: what `samefile` compares


class Outputs:
    """Names in one folder for the results of sources.

    The result of a source is NAME.png: the source's own name, cut to what a file system takes, and
    with a number (NAME-2) where it would be another's. A source that may have several results, of
    which nobody knows how many before its faces are found, has NAME_0.png, NAME_1.png, …: all of
    them are kept free from the start.

    Args:
        folder: where all results go; it may not be there yet.
        sources: files that are read, each of which has a name here.
        suffixes: what is written for each result, e.g. (".png", ".json").
        numbered: the sources that may have several results.
        protected: further files that are read, e.g. the photos of inversions.
        overwrite: results may replace files that were there before, but never a source.

    Raises:
        InputError: a result would take the place of a source, of a link or of anything but a plain
            file, or of a plain file without `overwrite`; or the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Path],
        suffixes: Sequence[str],
        *,
        numbered: Collection[Path] = (),
        protected: Iterable[Path] = (),
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self.suffixes = tuple(suffixes)
        self.overwrite = overwrite
        self._numbered = frozenset(numbered)
        self._kept = identities([*sources, *protected])
        limit = LONGEST - _ROOM - max(len(suffix.encode()) for suffix in suffixes)
        self._names = unique_names(sources, self._numbered, limit)
        self._given: set[Path] = set()
        check_folder(folder)
        check_targets([*self._single_targets(), *self._members_there()], self._kept, overwrite)

    def target(self, source: Path, index: int = 0, suffix: str | None = None) -> Path:
        """Where a result of a source is to be written.

        Args:
            source: one of the sources.
            index: which of its results; one that is not numbered has 0 alone.
            suffix: one of the suffixes; the first by default.

        Raises:
            InputError: since the start a file has appeared in this place.
        """
        suffix = self.suffixes[0] if suffix is None else suffix
        if suffix not in self.suffixes or (index and source not in self._numbered):
            raise ValueError(f"No place is kept for result {index}{suffix} of {source}.")
        name = self._names[source]
        if source in self._numbered:
            name = f"{name}_{index}"
        target = self.folder / f"{name}{suffix}"
        if target not in self._given:
            check_targets([target], self._kept, self.overwrite)
            self._given.add(target)
        return target

    def protect(self, *paths: Path) -> None:
        """Keep results away from further files that are read; `target` raises InputError."""
        self._kept |= identities(paths)

    def _single_targets(self) -> list[Path]:
        names = [name for source, name in self._names.items() if source not in self._numbered]
        return [self.folder / f"{name}{suffix}" for name in names for suffix in self.suffixes]

    def _members_there(self) -> list[Path]:
        """Files of the folder that a numbered result might replace."""
        if not self._numbered or not self.folder.is_dir():
            return []
        families = {_key(self._names[source]): self._names[source] for source in self._numbered}
        found = []
        try:
            there = sorted(_key(entry.name) for entry in self.folder.iterdir())
        except OSError as error:
            raise InputError(
                f"The folder {self.folder} cannot be looked into ({error.strerror}), and files of "
                "it might be replaced; choose another one."
            ) from error
        for name in there:
            for suffix in self.suffixes:
                match = _MEMBER.fullmatch(name.removesuffix(suffix))
                if match and match[1] in families:
                    found.append(self.folder / f"{families[match[1]]}_{match[2]}{suffix}")
        return found


def check_targets(
    targets: Iterable[Path],
    sources: Iterable[Path] | Mapping[Identity, Path] = (),
    overwrite: bool = False,
) -> None:
    """Raise unless files may be written in these places; for verbs that are given them by name.

    Args:
        targets: the files to be written, none of which is another.
        sources: files that are read, or their identities.
        overwrite: files that were there before may be replaced.

    Raises:
        InputError: a target is a source, by whatever name; it is a link or no plain file; it is
            there and may not be replaced; or its folder cannot be written to.
    """
    kept = sources if isinstance(sources, Mapping) else identities(sources)
    targets = list(targets)
    for folder in {target.parent for target in targets}:
        check_folder(folder)
    there = []
    for target in targets:
        try:
            if not os.path.lexists(target):
                continue
            source = next((kept[one] for one in identities([target]) if one in kept), None)
            if source is not None:
                raise InputError(
                    f"Writing {target} would replace the source {source}; choose another folder."
                )
            check_replaceable(target)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}.") from error
        there.append(target)
    if there and not overwrite:
        more = f" (and {len(there) - 1} more files of this run)" if len(there) > 1 else ""
        raise InputError(
            f"There is a file {there[0]} already{more}; choose another place, or replace it with "
            "--overwrite."
        )


def check_folder(folder: Path) -> None:
    """Raise InputError unless files can be made in a folder, or it in one above it."""
    try:
        above = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not above.is_dir():
            raise InputError(
                f"Cannot write to {folder}: {above} is not a folder; choose another place."
            )
        if not os.access(above, os.W_OK | os.X_OK):
            raise InputError(
                f"Cannot write to {folder}: the folder {above} may not be written to; choose "
                "another one."
            )
    except OSError as error:
        raise InputError(
            f"Cannot write to {folder}: {error.strerror}; choose another folder."
        ) from error


def identities(paths: Iterable[Path]) -> dict[Identity, Path]:
    """The files behind paths, links followed; what is not there has none."""
    found: dict[Identity, Path] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.setdefault((status.st_dev, status.st_ino), path)
    return found


def unique_names(
    sources: Iterable[Path], numbered: Collection[Path] = (), limit: int = LONGEST
) -> dict[Path, str]:
    """A name without suffix for each file: its own, with a number where it would be another's.

    Names are others only if they differ on file systems that take a for A, too.

    Args:
        sources: the files.
        numbered: those that write NAME_0, NAME_1, …; no name is one of these.
        limit: bytes that a name may have.
    """
    names: dict[Path, str] = {}
    taken, families, members = set[str](), set[str](), set[str]()
    counts: dict[str, int] = {}
    for source in dict.fromkeys(sources):
        own = _cut(_stem(source), limit)
        name, number = own, counts.get(_key(own), 1)
        while True:
            key = _key(name)
            match = _MEMBER.fullmatch(key)
            family = match[1] if match else None
            clash = key in members if source in numbered else family in families
            if key not in taken and not clash:
                break
            number += 1
            name = f"{own}-{number}"
        counts[_key(own)] = number
        taken.add(key)
        if source in numbered:
            families.add(key)
        elif family is not None:
            members.add(family)
        names[source] = name
    return names


def _stem(path: Path) -> str:
    name = path.name
    inverted = name.endswith(INVERSION_SUFFIX)
    return (name.removesuffix(INVERSION_SUFFIX) if inverted else path.stem) or "unnamed"


def _cut(name: str, limit: int) -> str:
    while len(os.fsencode(name)) > limit:
        name = name[:-1]
    return name


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
