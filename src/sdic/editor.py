"""From a photo to the edited photo: alignment, inversion, edit and paste-back in one place.

import sdic
editor = sdic.load()
editor.edit("portrait.jpg", smile=2).save("smiling.jpg")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdic import alignment, images, methods
from sdic.alignment import CropPlace, Which
from sdic.editing import library, units
from sdic.editing.direction import Edit
from sdic.errors import InputError
from sdic.images import Photo, Pixels
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter, Progress
from sdic.methods.optimisation import Optimisation
from sdic.recognition.detection import Detector, load_detector
from sdic.runtime.backends import resolve_device

PLACE, PHOTO = "place", "photo"  # keys of an inversion's metadata


class Editor:
    """An inversion method with all that is needed around it to edit photos.

    Args:
        inverter: the method, see `methods.create`.
        device: where the method's networks are.
        detector: key of the face detector; it is loaded at the first photo that needs it.
        refine: optimisation steps on F and w+ after the method's own inversion.
    """

    def __init__(
        self, inverter: Inverter, device: str = "cpu", detector: str = "mtcnn", refine: int = 0
    ) -> None:
        if refine < 0:
            raise InputError(f"The number of refinement steps is {refine}; give 0 or more.")
        self.inverter = inverter
        self.device = torch.device(device)
        self.refine = refine
        self._detector_name = detector
        self._detector: Detector | None = None
        self._refiner: Optimisation | None = None

    def find(
        self, photo: Photo, which: Which = "largest", aligned: bool = False
    ) -> list[CropPlace]:
        """Places of the chosen faces; of an aligned photo, all of it.

        Raises:
            NoFaceError: no face was found, or not the one asked for.
        """
        if aligned:
            return [alignment.aligned_place(photo.rgb)]
        if self._detector is None:
            self._detector = load_detector(self._detector_name)
        return alignment.find_places(photo.rgb, which, self._detector)

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
            photo: a file, or a photo that was read.
            face: which face: "largest", or an index with the largest first.
            aligned: the photo is an aligned crop already.
            progress: called after each step of a method that iterates.

        Raises:
            InputError: the photo cannot be read.
            NoFaceError: no face was found, or not the one asked for.
        """
        photo = _read(photo)
        return self.invert_place(photo, self.find(photo, face, aligned)[0], progress)

    def invert_place(
        self, photo: Photo, place: CropPlace, progress: Progress | None = None
    ) -> Inversion:
        """Invert the face at a known place of a photo."""
        pixels = alignment.crop(photo.rgb, place, INVERSION_SIZE)
        crop = images.to_tensor(pixels).to(self.device)
        inversion = self.inverter.invert(crop, progress)
        if self.refine:
            inversion = self._refined(inversion, crop, progress)
        inversion.metadata[PLACE] = json.dumps(place.to_dict())
        if photo.path is not None:
            inversion.metadata[PHOTO] = str(photo.path.resolve())
        return inversion

    def render(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Pixels:
        """The inverted face, edited if asked for: [S,S,3] uint8; S is the generator's resolution.

        Raises:
            InputError: the inversion was made with another generator.
        """
        self._check_generator(inversion)
        faces = self.inverter.synthesize(_on(inversion, self.device), edit, size)
        face: Pixels = images.to_uint8(faces)[0]
        return face

    def paste(
        self, inversion: Inversion, photo: Photo, edit: Edit | None = None, *, detail: bool = True
    ) -> Photo:
        """The photo with its face edited.

        Args:
            inversion: of a face of this photo.
            photo: the photo that was inverted.
            edit: the edit; without one, what the inversion lost is all that changes.
            detail: paste the change that the edit makes, so that fine structure which no inversion
                holds stays; else the generated face itself.
        """
        place = place_of(inversion)
        edited = self.render(inversion, edit)
        unedited = self.render(inversion) if detail else None
        return photo.with_rgb(
            alignment.paste_back(photo.rgb, edited, place, original_crop=unedited)
        )

    def edit(
        self,
        photo: Photo | Path | str,
        strengths: Mapping[str, float | str] | None = None,
        *,
        face: Which = "largest",
        aligned: bool = False,
        **more_strengths: float | str,
    ) -> Image.Image:
        """The edited photo: each direction by its name with its strength.

        Args:
            photo: a file, or a photo that was read.
            strengths: strengths by the names of directions, or texts with a unit, e.g. "+15y";
                see `units.to_strength`.
            face: which face: "largest", an index with the largest first, or "all" of them.
            aligned: the photo is an aligned crop already.
            more_strengths: strengths again, for names that are Python names.

        Raises:
            InputError: the photo cannot be read, or a direction is not known.
            NoFaceError: no face was found, or not the one asked for.
        """
        photo = _read(photo)
        edit = self.make_edit({**(strengths or {}), **more_strengths})
        inversions = [self.invert_place(photo, place) for place in self.find(photo, face, aligned)]
        for inversion in inversions:
            photo = self.paste(inversion, photo, edit)
        return Image.fromarray(photo.rgb)

    def make_edit(self, strengths: Mapping[str, float | str]) -> Edit:
        """Names of directions with strengths, as one edit for this editor's generator.

        Raises:
            InputError: a direction is not known, a strength is not a finite number, or a unit is
                not the direction's.
        """
        steps = []
        for key, amount in strengths.items():
            direction = library.get(key, self.inverter.generator.name)
            strength = units.to_strength(direction, amount)
            if not np.isfinite(strength):
                raise InputError(f"The strength of '{key}' is {strength}; give a number.")
            steps.append((direction, strength))
        return Edit(tuple(steps))

    def _refined(self, inversion: Inversion, crop: Tensor, progress: Progress | None) -> Inversion:
        if self._refiner is None:
            self._refiner = methods.refiner(self.inverter.generator)
        return self._refiner.refine(inversion, crop, self.refine, progress)

    def _check_generator(self, inversion: Inversion) -> None:
        here = self.inverter.generator.name
        if inversion.generator != here:
            raise InputError(
                f"The inversion was made with the generator '{inversion.generator}', this editor "
                f"has '{here}'; load that generator, or invert the photo again."
            )


def load(
    method: str = methods.DEFAULT,
    generator: str = "mobile",
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
        generator: key of the generator.
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


def place_of(inversion: Inversion) -> CropPlace:
    """Where in its photo an inverted face lies.

    Raises:
        InputError: the inversion does not say.
    """
    text = inversion.metadata.get(PLACE)
    if text is None:
        raise InputError(
            "The inversion does not say where in the photo its face lies; write the crop alone "
            "(--crop), or invert the photo again."
        )
    try:
        values = json.loads(text)
    except ValueError:
        raise InputError(
            f"The place of the face in the inversion cannot be read ('{text[:80]}'); "
            "invert the photo again."
        ) from None
    return CropPlace.from_dict(values)


def _read(photo: Photo | Path | str) -> Photo:
    return photo if isinstance(photo, Photo) else images.read(photo)


def _on(inversion: Inversion, device: torch.device) -> Inversion:
    """The inversion with its tensors on a device; the same object where they are there already."""
    if inversion.latents.device == device:
        return inversion
    return Inversion(
        inversion.method,
        inversion.generator,
        inversion.latents.to(device),
        inversion.base_latents.to(device),
        None if inversion.features is None else inversion.features.to(device),
        inversion.reconstruction.to(device),
        {name: weight.to(device) for name, weight in inversion.weights.items()},
        inversion.metadata,
        None if inversion.photo is None else inversion.photo.to(device),
    )
