"""From a photo to the edited photo: alignment, inversion, edit and paste-back in one place.

import sdic
editor = sdic.load()
editor.edit("portrait.jpg", smile=2).save("smiling.jpg")
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import torch

from sdic import alignment, images, methods, session
from sdic.alignment import CropPlace, Which
from sdic.editing import library, units
from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.images import Photo, Pixels
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter, Progress
from sdic.methods.optimisation import Optimisation
from sdic.recognition.detection import Detector, load_detector
from sdic.runtime.backends import resolve_device
from sdic.session import FaceSession, PhotoSession
from sdic.text import Understood, parse


class Editor:
    """An inversion method with all that is needed around it to edit photos; safe between threads.

    Args:
        inverter: the method, see `methods.create`.
        device: where the method's networks are.
        detector: key of the face detector, which is loaded at the first photo that needs it; or a
            detector.
        refine: optimisation steps on F and w+ after the method's own inversion.
    """

    def __init__(
        self,
        inverter: Inverter,
        device: str = "cpu",
        detector: str | Detector = "mtcnn",
        refine: int = 0,
    ) -> None:
        if refine < 0:
            raise InputError(f"The number of refinement steps is {refine}; give 0 or more.")
        self.inverter = inverter
        self.device = torch.device(device)
        self.refine = refine
        self._detector = detector
        self._refiner: Optimisation | None = None
        self._loading = Lock()

    def find(
        self, photo: Photo, which: Which = "largest", aligned: bool = False
    ) -> list[CropPlace]:
        """Places of the chosen faces; of an aligned photo, all of it.

        Raises:
            NoFaceError: no face was found, or not the one asked for.
        """
        if aligned:
            return [alignment.aligned_place(photo.rgb)]
        with self._loading:
            if isinstance(self._detector, str):
                self._detector = load_detector(self._detector)
        return alignment.find_places(photo.rgb, which, self._detector)

    def open(
        self,
        photo: Photo | Path | str,
        face: Which = "largest",
        *,
        aligned: bool = False,
        progress: Progress | None = None,
        whole: bool = True,
    ) -> PhotoSession:
        """Invert the chosen faces of a photo, ready for any number of edits.

        Args:
            photo: a file, or a photo that was read.
            face: which faces: "largest", an index with the largest first, or "all".
            aligned: the photo is an aligned crop already.
            progress: called after each step of a method that iterates.
            whole: keep the unedited render at full resolution, which pasting needs; it costs no
                more than the one at 256x256.

        Raises:
            InputError: the photo cannot be read.
            NoFaceError: no face was found, or not the one asked for.
        """
        photo = photo if isinstance(photo, Photo) else images.read(photo)
        size = None if whole else INVERSION_SIZE
        faces = []
        for place in self.find(photo, face, aligned):
            inversion = self.invert_place(photo, place, progress, size)
            faces.append(FaceSession(self.inverter, inversion, photo, place))
        return PhotoSession(photo, faces)

    def reopen(self, inversion: Inversion, photo: Photo | None = None) -> PhotoSession:
        """A session of an inversion that was made before; see `session.reopen`.

        Raises:
            InputError: see there.
        """
        return session.reopen(self.inverter, inversion, photo, self.device)

    def invert(
        self,
        photo: Photo | Path | str,
        face: Which = "largest",
        *,
        aligned: bool = False,
        progress: Progress | None = None,
    ) -> Inversion:
        """Invert one face of a photo.

        Args:
            photo: see `open`.
            face: which face: "largest", or an index with the largest first; `open` takes "all".
            aligned: see `open`.
            progress: see `open`.

        Raises:
            InputError: the photo cannot be read, or all faces were asked for.
            NoFaceError: no face was found, or not the one asked for.
        """
        if face == "all":
            raise InputError(
                "An inversion is of one face; `open` inverts all of a photo, or give an index."
            )
        opened = self.open(photo, face, aligned=aligned, progress=progress, whole=False)
        return opened[0].inversion

    def invert_place(
        self,
        photo: Photo,
        place: CropPlace,
        progress: Progress | None = None,
        size: int | None = INVERSION_SIZE,
    ) -> Inversion:
        """Invert the face at a known place of a photo.

        Args:
            photo: that was read.
            place: of the face.
            progress: see `open`.
            size: of the unedited image, see `Inverter.invert`.
        """
        pixels = alignment.crop(photo.rgb, place, INVERSION_SIZE)
        crop = images.to_tensor(pixels).to(self.device)
        first = INVERSION_SIZE if self.refine else size
        inversion = self.inverter.invert(crop, progress, first)
        if self.refine:
            inversion = self._refining().refine(inversion, crop, self.refine, progress)
        session.describe(inversion, photo, place)
        return inversion

    def render(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Pixels:
        """The inverted face, edited if asked for: [S,S,3] uint8; S is the generator's resolution.

        Raises:
            InputError: the inversion was made with another generator, or is of several faces.
        """
        return self.reopen(inversion)[0].render(edit, size)

    def paste(
        self, inversion: Inversion, photo: Photo, edit: Edit | None = None, *, detail: bool = True
    ) -> Photo:
        """The photo with its face edited; see `FaceSession.paste`.

        Raises:
            InputError: see there and `session.reopen`.
        """
        return self.reopen(inversion, photo)[0].paste(edit, detail=detail)

    def edit(
        self,
        photo: Photo | Path | str,
        strengths: Mapping[str, float | str] | None = None,
        *,
        text: str | None = None,
        face: Which = "largest",
        aligned: bool = False,
        **more_strengths: float | str,
    ) -> Photo:
        """The edited photo: each direction by its name with its strength.

        Its `save` writes the file with metadata, transparency and the mark of edited media.

        Args:
            photo: a file, or a photo that was read.
            strengths: strengths by the names of directions, or texts with a unit, e.g. "+15y";
                see `units.to_strength`.
            text: further edits in words, e.g. "ten years older, a slight smile"; see `understand`.
            face: which face: "largest", an index with the largest first, or "all" of them.
            aligned: the photo is an aligned crop already.
            more_strengths: strengths again, for names that are Python names.

        Raises:
            InputError: the photo cannot be read, a direction is not known, the text is not
                understood, or it names a direction that has a strength already.
            NoFaceError: no face was found, or not the one asked for.
        """
        amounts = {**(strengths or {}), **more_strengths}
        in_words = {} if text is None else self.understand(text).amounts
        for name in in_words:
            if name in amounts:
                raise InputError(f"The direction '{name}' is given twice; give it once.")
        edit = self.make_edit({**amounts, **in_words})
        return self.open(photo, face, aligned=aligned).paste(edit)

    def make_edit(self, strengths: Mapping[str, float | str]) -> Edit:
        """Names of directions with strengths, as one edit for this editor's generator.

        Raises:
            InputError: a direction is not known, a strength is not a finite number, or a unit is
                not the direction's.
        """
        steps = []
        for key, amount in strengths.items():
            direction = library.get(key, self.inverter.generator)
            steps.append((direction, units.to_strength(direction, amount)))
        return Edit(tuple(steps))

    def understand(self, text: str) -> Understood:
        """What a text asks for by the directions that ship; `make_edit` takes its `amounts`.

        Raises:
            InputError: see `text.parse`.
        """
        return parse(text, library.load_library(self.inverter.generator))

    def _refining(self) -> Optimisation:
        with self._loading:
            if self._refiner is None:
                self._refiner = methods.refiner(self.inverter.generator)
            return self._refiner


def load(
    method: str = methods.DEFAULT,
    generator: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    backend: str = "auto",
    device: str = "cpu",
    detector: str = "mtcnn",
    refine: int = 0,
) -> Editor:
    """An editor, ready for photos; weights are fetched where they are not in the cache.

    Args:
        method: key of the inversion method, see `list_methods`.
        generator: key of the generator; None is that of the checkpoint, or "mobile".
        checkpoint: a published or exported file, see `methods.create`.
        backend: how the generator is run: auto, eager, compiled, openvino or
            openvino-bf16.
        device: auto, cpu, cuda, cuda:N or mps.
        detector: mtcnn or dlib.
        refine: optimisation steps on top of the method's own inversion.

    Raises:
        InputError: an unknown key, or arguments that do not belong together.
        WeightsError: weights cannot be fetched or read.
    """
    device = resolve_device(device)
    inverter = methods.create(
        method, generator, checkpoint=checkpoint, backend=backend, device=device
    )
    return Editor(inverter, device, detector, refine)
