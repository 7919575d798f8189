"""A face of a photo, from finding to pasting: what commands, the page, an API and video hold.

A session holds the photo, where in it the face lies, its inversion, and the unedited render, which
is made once. It knows nothing of whoever holds it. What of it can be saved and sent is the
inversion; `reopen` makes a session of that again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sdic import alignment, images
from sdic.alignment import CropPlace
from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.images import Photo, Pixels
from sdic.methods.base import Inversion, Inverter

# Keys of an inversion's metadata: where in its photo the face lies, the photo's name, its pixels.
PLACE, PHOTO, PIXELS = "place", "photo", "photo_pixels"

NO_PLACE = (
    "The inversion does not say where in the photo its face lies; write the crop alone (--crop), "
    "or invert the photo again."
)


@dataclass
class FaceSession:
    """One face.

    Attributes:
        inverter: the method.
        inversion: of this face alone, on the method's device.
        photo: the photo that it is in; None where only the crop is wanted.
        place: where in the photo it lies; None where that is not known.
    """

    inverter: Inverter
    inversion: Inversion
    photo: Photo | None = None
    place: CropPlace | None = None
    _unedited: dict[int, Pixels] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.inversion) != 1:
            raise InputError(
                f"The inversion holds {len(self.inversion)} faces; a session is of one. Take them "
                "apart, or generate them with `inverter.synthesize`."
            )

    def render(self, edit: Edit | None = None, size: int | None = None) -> Pixels:
        """The face, edited if asked for: [S,S,3] uint8; by default S is the full resolution.

        Raises:
            InputError: the inversion was made with another generator.
        """
        size = self.inverter.generator.check_size(size)
        if edit is not None:
            return self._made(edit, size)
        if size not in self._unedited:
            self._unedited[size] = self._made(None, size)
        return self._unedited[size]

    def paste(
        self, edit: Edit | None = None, *, onto: Photo | None = None, detail: bool = True
    ) -> Photo:
        """The photo with its face edited.

        Args:
            edit: the edit; without one, what the inversion lost is all that changes.
            onto: a photo of the same size that was changed elsewhere; by default the session's.
            detail: paste the change that the edit makes, so that fine structure which no inversion
                holds stays; else the generated face itself.

        Raises:
            InputError: the session has no photo, or its place is not known.
        """
        photo, place = self._where()
        photo = onto or photo
        edited = self.render(edit)
        unedited = self.render() if detail else None
        pasted = alignment.paste_back(photo.rgb, edited, place, original_crop=unedited)
        return photo.with_rgb(pasted)

    def crop(self, size: int = 1024) -> Pixels:
        """The face as it is in the photo: [size,size,3] uint8.

        Raises:
            InputError: the session has no photo, or its place is not known.
        """
        photo, place = self._where()
        return alignment.crop(photo.rgb, place, size)

    def _where(self) -> tuple[Photo, CropPlace]:
        if self.photo is None:
            raise InputError("The session has no photo; render the face alone.")
        if self.place is None:
            raise InputError(NO_PLACE)
        return self.photo, self.place

    def _made(self, edit: Edit | None, size: int) -> Pixels:
        kept = self.inversion.render
        if edit is None and kept is not None and kept.shape[-1] == size:
            self.inverter.check(self.inversion)
            made = kept
        else:
            made = self.inverter.synthesize(self.inversion, edit, size)
        face: Pixels = images.to_uint8(made)[0]
        return face


@dataclass
class PhotoSession:
    """A photo and those of its faces that were asked for.

    Attributes:
        photo: None where only the crops are wanted.
        faces: the largest first.
    """

    photo: Photo | None
    faces: list[FaceSession]

    def __len__(self) -> int:
        return len(self.faces)

    def __iter__(self) -> Iterator[FaceSession]:
        return iter(self.faces)

    def __getitem__(self, index: int) -> FaceSession:
        return self.faces[index]

    def paste(self, edit: Edit | Mapping[int, Edit], *, detail: bool = True) -> Photo:
        """The photo with all faces edited alike, or some of them by number, each in its way.

        Raises:
            InputError: see `FaceSession.paste`; or there is no face of a number.
        """
        edits = edit if isinstance(edit, Mapping) else dict.fromkeys(range(len(self)), edit)
        photo = self.photo
        for number, one in edits.items():
            if not 0 <= number < len(self):
                raise InputError(f"There is no face {number}; the session has {len(self)}.")
            photo = self[number].paste(one, onto=photo, detail=detail)
        if photo is None:
            raise InputError("The session has no photo to paste into; render the faces alone.")
        return photo


def describe(inversion: Inversion, photo: Photo, place: CropPlace) -> None:
    """Write into an inversion's metadata which photo it is of, and where in it."""
    inversion.metadata[PLACE] = json.dumps(place.to_dict())
    inversion.metadata[PIXELS] = pixels_digest(photo)
    if photo.path is not None:
        inversion.metadata[PHOTO] = photo.path.name


def reopen(
    inverter: Inverter, inversion: Inversion, photo: Photo | None, device: torch.device
) -> PhotoSession:
    """A session of an inversion that was made before.

    Args:
        inverter: the method that edits it.
        inversion: of one face.
        photo: the photo that it was made of, or None for the crop alone.
        device: where the method's networks are.

    Raises:
        InputError: the photo is another one than was inverted, the inversion does not say where in
            it the face lies, or holds several faces.
    """
    place = None
    if photo is not None:
        check_photo(inversion, photo)
        place = place_of(inversion)
    inverter.check(inversion)
    face = FaceSession(inverter, inversion.to(device), photo, place)
    return PhotoSession(photo, [face])


def place_of(inversion: Inversion) -> CropPlace:
    """Where in its photo an inverted face lies.

    Raises:
        InputError: the inversion does not say.
    """
    text = inversion.metadata.get(PLACE)
    if text is None:
        raise InputError(NO_PLACE)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(
            f"The place of the face in the inversion cannot be read ('{text[:80]}'); "
            "invert the photo again."
        ) from None
    return CropPlace.from_dict(values)


def find_photo(inversion: Inversion, places: Sequence[Path]) -> Photo:
    """The photo that an inversion was made of: the first of its name that has its pixels.

    Args:
        inversion: it names its photo.
        places: folders, and files that are the photo whatever their name.

    Raises:
        InputError: there is no such file, it cannot be read, or it is another photo.
    """
    paths = photo_paths(inversion.metadata, places)
    if not paths:
        name = Path(inversion.metadata.get(PHOTO, "")).name
        folders = ", ".join(dict.fromkeys(str(place) for place in places))
        where = f", '{name[:255]}', is not in {folders}" if name else " is not named in it"
        if PIXELS not in inversion.metadata:
            where = " is not described in it"
        raise InputError(
            f"The photo of the inversion{where}; name the photo with --photo, its folder with "
            "--photos, or write the crop alone with --crop."
        )
    for path in paths[:-1]:  # a picture of an inversion beside it has the photo's name, too
        with contextlib.suppress(InputError):
            photo = images.read(path)
            check_photo(inversion, photo)
            return photo
    photo = images.read(paths[-1])
    check_photo(inversion, photo)
    return photo


def photo_paths(metadata: Mapping[str, str], places: Sequence[Path]) -> list[Path]:
    """Files that may be the photo which an inversion's metadata names.

    Args:
        metadata: of the inversion.
        places: folders, and files that are the photo whatever their name.
    """
    name = Path(metadata.get(PHOTO, "")).name
    paths = [place if place.is_file() or not name else place / name for place in places]
    if PIXELS not in metadata:  # of an old or a foreign file, whose name alone says nothing
        paths = [path for path in paths if path in places]
    # The name is what the file says: `isfile` is never raised by it.
    return list(dict.fromkeys(path for path in paths if os.path.isfile(path)))


def check_photo(inversion: Inversion, photo: Photo) -> None:
    """Raise InputError if a photo is not the one that was inverted, where the inversion knows.

    Raises:
        InputError: as said.
    """
    known = inversion.metadata.get(PIXELS)
    if known is not None and known != pixels_digest(photo):
        raise InputError(
            f"{photo.path or 'The photo'} is another photo than was inverted; give the one that "
            "the inversion was made of, or invert this one."
        )


def pixels_digest(photo: Photo) -> str:
    """Thirty-two hexadecimal digits for the pixels of a photo and their arrangement."""
    digest = hashlib.blake2b(repr(photo.rgb.shape).encode(), digest_size=16)
    digest.update(photo.rgb.tobytes())
    return digest.hexdigest()
