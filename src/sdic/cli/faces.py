"""What the verbs on faces share: editors as options describe them, and sessions of sources."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdic import methods
from sdic.alignment import Which
from sdic.cli import options
from sdic.cli.options import Engine
from sdic.cli.progress import DescentProgress
from sdic.editor import Editor
from sdic.errors import InputError
from sdic.methods.base import Inversion
from sdic.methods.sdic.method import SDIC
from sdic.methods.storage import load_inversion, load_metadata
from sdic.session import PhotoSession, find_photo, photo_paths


class Editors:
    """Editors by method, made once each, as the options of a command describe them.

    Args:
        engine: its method of None is the default for photos, and its own for an inversion.
        release: of SDIC's compensation, or None for the method's own.
    """

    def __init__(self, engine: Engine, release: float | None = None) -> None:
        self.engine, self.release = engine, release
        self._editors: dict[str, Editor] = {}

    def editor(self, inversion: Inversion | None = None) -> Editor:
        """The editor of photos, or the one that edits an inversion.

        Raises:
            InputError: the method asked for cannot edit what the inversion's own method made, or
                see `editor.load`.
        """
        name = self.engine.method or methods.DEFAULT
        if inversion is not None:
            name = self.engine.method or inversion.method
            if not methods.get(name).edits(methods.get(inversion.method)):
                raise InputError(
                    f"The inversion was made by the method '{inversion.method}', whose edits are "
                    f"its own; leave --method {name} out, or invert the photo again."
                )
        if name not in self._editors:
            self._editors[name] = self._load(name)
        return self._editors[name]

    def of(self, session: PhotoSession) -> Editor:
        """The editor that a session was opened with."""
        return self._editors[session[0].inverter.name]

    def _load(self, name: str) -> Editor:
        editor = options.make_editor(self.engine, name)
        if self.release is not None:
            if not isinstance(editor.inverter, SDIC):
                raise InputError(
                    f"--release is for SDIC's compensation, which '{name}' does not have; leave "
                    "it out."
                )
            editor.inverter = editor.inverter.releasing(self.release)
        return editor


@dataclass(frozen=True)
class Sources:
    """Photos and inversions as they were given.

    Attributes:
        photos: files of photos.
        inversions: files of inversions.
        places: where the photos of inversions are looked for: files or folders.
    """

    photos: tuple[Path, ...]
    inversions: tuple[Path, ...]
    places: tuple[Path, ...] = ()

    @classmethod
    def of(cls, given: Sequence[Path], photo: Path | None, folder: Path) -> Sources:
        """Sources from arguments, --photo and --photos.

        Raises:
            InputError: a folder has no pictures, or a file is none.
        """
        if photo is not None:
            options.check_regular(photo)
        photos, inversions = options.list_sources(given)
        return cls(tuple(photos), tuple(inversions), (photo or folder,))

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*self.photos, *self.inversions]

    def photos_of_inversions(self) -> list[Path]:
        """The photos that the inversions name, where they are found; nothing is read of them."""
        found = []
        for path in self.inversions:
            with contextlib.suppress(InputError):  # a file that is no inversion is told in its turn
                found += photo_paths(load_metadata(path), self._places(path))
        return found

    def open(
        self, path: Path, editors: Editors, which: Which, aligned: bool, crop: bool
    ) -> PhotoSession:
        """The session of one source.

        Args:
            path: one of `paths`.
            editors: see there.
            which: faces of a photo.
            aligned: photos are crops already.
            crop: only the crop is wanted, so that an inversion needs no photo.

        Raises:
            SdicError: see `Editor.open` and `Editor.reopen`.
        """
        if path in self.inversions:
            options.check_regular(path)
            inversion = load_inversion(path)
            photo = None if crop else find_photo(inversion, self._places(path))
            return editors.editor(inversion).reopen(inversion, photo)
        with DescentProgress() as progress:
            return editors.editor().open(path, which, aligned=aligned, progress=progress)

    def _places(self, path: Path) -> list[Path]:
        return [*(place for place in self.places if place.is_file()), path.parent, *self.places]
