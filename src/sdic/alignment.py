"""The FFHQ crop of a face, and the way back into the photo.

The crop is the one of Karras, Laine, Aila, "A Style-Based Generator Architecture for Generative
Adversarial Networks" (CVPR 2019), appendix A: a square in the photo, turned and scaled with the
eyes and the mouth. All coordinates are x and y in pixels, where pixel i covers [i, i+1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sdic.errors import InputError, NoFaceError
from sdic.images import Pixels
from sdic.images.photo import check_rgb
from sdic.recognition.detection import Detector, Face, load_detector

Floats = NDArray[np.float64]
Which = int | Literal["largest", "all"]

DEFAULT_FEATHER = 0.1
FARTHEST = 1e9  # pixels that the corner of a crop may be away from its photo's

# MTCNN's points are not quite where dlib's are: offset to the right and down in half sides, and
# scale, of the crop from dlib's landmarks in the frame of the one from MTCNN's.
# Measured by `benchmarks/alignment_correction.py` on 121 portraits aligned with dlib: offset
# 0.001 and 0.013, scale 0.983. On 60 other people the mean distance of the corners falls from
# 2.4 % to 1.9 % of the side (median 1.8 % to 1.4 %).
_MTCNN_OFFSET, _MTCNN_SCALE = (0.0, 0.013), 0.983

_OVERSAMPLING = 3  # bilinear sampling of a copy this much finer loses almost nothing


@dataclass(frozen=True, eq=False)
class CropPlace:
    """Where in a photo a crop lies.

    Attributes:
        quad: [4,2] corners of the square in photo pixels: top left, bottom left, bottom right, top
            right as seen in the crop. They may lie outside the photo.
        photo_size: width and height of the photo.
    """

    quad: Floats
    photo_size: tuple[int, int]

    @property
    def side(self) -> float:
        """Side of the square in photo pixels."""
        return float(np.linalg.norm(self.quad[3] - self.quad[0]))

    @property
    def axes(self) -> Floats:
        """[2,2]: the sides of the crop to the right and down, as columns, in photo pixels."""
        return np.stack((self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {"quad": self.quad.tolist(), "photo_size": list(self.photo_size)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> CropPlace:
        """The place that `to_dict` described.

        Raises:
            InputError: the values are not a square and a size.
        """
        try:
            quad = np.array(values["quad"], dtype=np.float64)
            width, height = (int(side) for side in values["photo_size"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not the place of a crop: {error!r:.80} in {values!s:.80}; invert the "
                "photo again."
            ) from None
        place = CropPlace(quad, (width, height))
        # To the right, then a quarter turn: everything here relies on the quad being a square.
        if (
            quad.shape != (4, 2)
            or not np.abs(quad).max() <= FARTHEST
            or min(width, height) < 1
            or not place.side >= 1
            or np.abs(place.axes[:, 1] - _quarter_turn(place.axes[:, 0])).max() > 0.01 * place.side
        ):
            raise InputError(
                f"This is not the place of a crop: expected a square in {values!s:.80}; invert the "
                "photo again."
            )
        return place


def ffhq_quad(points: Floats) -> Floats:
    """Corners [4,2] of the FFHQ crop from five points [5,2] (eyes, nose, corners of the mouth).

    FFHQ takes the mean of dlib's landmarks of each eye; the points of `Face` from dlib are those.
    """
    eye_to_eye = points[1] - points[0]
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    eye_to_mouth = mouth - eyes
    right = eye_to_eye - _quarter_turn(eye_to_mouth)
    length = max(2.0 * np.linalg.norm(eye_to_eye), 1.8 * np.linalg.norm(eye_to_mouth))
    right = right / np.linalg.norm(right) * length
    return _square(eyes + 0.1 * eye_to_mouth, right)


def place_of_face(face: Face, photo_size: tuple[int, int]) -> CropPlace:
    """The FFHQ crop of a face in a photo of this width and height."""
    quad = ffhq_quad(face.points)
    if face.landmarks is None:
        quad = _corrected(quad)
    return CropPlace(quad, photo_size)


def aligned_place(rgb: Pixels) -> CropPlace:
    """The crop of a photo [H,W,3] that is aligned already: all of it, or its central square."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    corners = [(0, 0), (0, side), (side, side), (side, 0)]
    return CropPlace(np.array(corners) + np.array([left, top], dtype=float), (width, height))


def choose_faces(faces: list[Face], which: Which) -> list[Face]:
    """The faces asked for, of a list sorted by size: one by its index, the largest, or all.

    Raises:
        NoFaceError: there is no face, or none with this index.
    """
    if which == "all" and faces:
        return faces
    index = 0 if isinstance(which, str) else which
    if not 0 <= index < len(faces):
        raise NoFaceError(
            f"Face {index} was asked for, but the photo has {len(faces)} "
            f"{'face' if len(faces) == 1 else 'faces'} (counted from 0, the largest first)."
        )
    return [faces[index]]


def find_places(
    rgb: Pixels, which: Which = "largest", detector: str | Detector = "mtcnn"
) -> list[CropPlace]:
    """The FFHQ crops of the chosen faces of a photo [H,W,3] uint8.

    Raises:
        NoFaceError: no face was found, or not the one asked for.
    """
    if isinstance(detector, str):
        detector = load_detector(detector)
    faces = detector(rgb)
    size = rgb.shape[1], rgb.shape[0]
    if not faces:
        other = "dlib" if detector.name == "mtcnn" else "mtcnn"
        raise NoFaceError(
            f"No face was found in the photo of {size[0]}x{size[1]} pixels: "
            f"{detector.describe(rgb)}. Turn the photo upright, cut it closer to the face, try the "
            f"detector {other}; a photo that is an aligned crop already needs no face to be found: "
            "`sdic invert` and `sdic edit` take it with --aligned."
        )
    return [place_of_face(face, size) for face in choose_faces(faces, which)]


def crop(rgb: Pixels, place: CropPlace, size: int = 1024) -> Pixels:
    """The crop [size,size,3] of a photo [H,W,3], antialiased.

    Beyond the photo's border the picture is mirrored, blurred and faded to its median, as in FFHQ;
    other than there, no pixel of the photo itself is blurred, so that it can be pasted back.

    Raises:
        InputError: the photo has not the size that the place was found in, or size is below 1.
    """
    _check_place(rgb, place)
    if size < 1:
        raise InputError(f"The size of a crop is {size}; expected at least 1 pixel.")
    margin = 3 + math.ceil(3 * max(1.0, place.side / size))
    low = np.floor(place.quad.min(axis=0)).astype(int) - margin
    high = np.ceil(place.quad.max(axis=0)).astype(int) + margin
    photo_size = np.array(place.photo_size)
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, photo_size)
    region = rgb[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    quad = place.quad
    if (quad.min(axis=0) < 0).any() or (quad.max(axis=0) > photo_size).any():
        region = _padded(region, inside_low - low, high - inside_high, place.side)
        inside_low = low
    image = Image.fromarray(np.ascontiguousarray(region))
    warped = _warp(image, quad[0] - inside_low, place.axes / size, (size, size))
    return np.array(warped)


def paste_back(
    rgb: Pixels,
    edited: Pixels,
    place: CropPlace,
    feather: float = DEFAULT_FEATHER,
    original_crop: Pixels | None = None,
) -> Pixels:
    """The photo [H,W,3] with the edited crop [S,S,3] in its place; a new array.

    The crop fades in from its border over `feather` of its side. Outside it not one pixel changes.
    A border that lies on or beyond the photo's own is not faded.

    Args:
        rgb: the photo.
        edited: the crop after the edit, of any size.
        place: where the crop came from.
        feather: width of the fade as a fraction of the side, 0 to 0.5.
        original_crop: the crop before the edit, of the same size. If given, only the difference is
            pasted: what the crop could not hold of a large photo (pores, hair) stays, and without
            an edit the photo comes back bit by bit. Without it the crop itself is pasted, which is
            right where the edit removes fine structure.

    Raises:
        InputError: a size or the feather does not fit.
    """
    _check_place(rgb, place)
    for picture in (edited, edited if original_crop is None else original_crop):
        check_rgb(picture)
        if picture.shape != (len(edited), len(edited), 3):
            raise InputError(
                f"Got a crop of shape {list(picture.shape)}; expected a square of one size."
            )
    if not 0 <= feather <= 0.5:
        raise InputError(f"The feather is {feather}; expected 0 to 0.5 of the crop's side.")
    pasted = rgb.copy()
    low = np.maximum(np.floor(place.quad.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(place.quad.max(axis=0)).astype(int), place.photo_size)
    part = pasted[low[1] : high[1], low[0] : high[0]]
    mask = _feathered_mask(place, low, high, feather)[..., None]
    into_crop = np.asarray(np.linalg.inv(place.axes / len(edited)), dtype=np.float64)
    origin = into_crop @ (low - place.quad[0])
    size = int(high[0] - low[0]), int(high[1] - low[1])
    change = np.asarray(_warp(Image.fromarray(edited), origin, into_crop, size), dtype=np.float32)
    if original_crop is None:
        change -= part
    else:
        change -= np.asarray(_warp(Image.fromarray(original_crop), origin, into_crop, size))
    part[...] = np.rint(np.clip(part + mask * change, 0, 255)).astype(np.uint8)
    return pasted


def _quarter_turn(vector: Floats) -> Floats:
    """A vector turned by 90 degrees, from right to down."""
    return np.array([-vector[1], vector[0]])


def _square(centre: Floats, right: Floats) -> Floats:
    """Corners of a square from its centre and half of a side."""
    down = _quarter_turn(right)
    return np.stack(
        (
            centre - right - down,
            centre - right + down,
            centre + right + down,
            centre + right - down,
        )
    )


def _corrected(quad: Floats) -> Floats:
    """An FFHQ quad from MTCNN's points, moved to where dlib's landmarks would have put it."""
    centre, right = quad.mean(axis=0), (quad[3] - quad[0]) / 2
    offset, scale = _MTCNN_OFFSET, _MTCNN_SCALE
    return _square(centre + offset[0] * right + offset[1] * _quarter_turn(right), scale * right)


def _check_place(rgb: Pixels, place: CropPlace) -> None:
    check_rgb(rgb)
    if (rgb.shape[1], rgb.shape[0]) != place.photo_size:
        raise InputError(
            f"The photo has {rgb.shape[1]}x{rgb.shape[0]} pixels, the place of the crop is in one "
            f"of {place.photo_size[0]}x{place.photo_size[1]}; give the photo that it came from."
        )
    low, high = place.quad.min(axis=0), place.quad.max(axis=0)
    outside = (low >= place.photo_size).any() or (high <= 0).any()
    if outside or place.side > 4 * max(place.photo_size):
        raise InputError(
            "The place of the crop lies outside the photo, or is far larger than it; "
            "find the face in this photo again."
        )


def _padded(
    region: Pixels, before: NDArray[np.int_], after: NDArray[np.int_], side: float
) -> Pixels:
    """A region mirrored beyond the photo's border, the more blurred and faded the farther out.

    The recipe of FFHQ: blur of 0.02 of the crop's side, complete at a third of the padding; fade
    to the median. The padding counts as at least 0.3 of the side. There the blur begins 0.1 of
    the side inside the photo, here at its border.
    """
    widths = ((before[1], after[1]), (before[0], after[0]))
    padded = np.pad(region, (*widths, (0, 0)), mode="reflect")
    distances = []
    for length, (first, last) in zip(region.shape[:2], widths, strict=True):
        position = np.arange(-first, length + last)
        beyond_first = -position / max(first, 0.3 * side)
        beyond_last = (position - length + 1) / max(last, 0.3 * side)
        distances.append(np.clip(np.maximum(beyond_first, beyond_last), 0, 1))
    far = np.maximum(distances[0][:, None], distances[1][None, :])[..., None].astype(np.float32)
    blurred = Image.fromarray(padded).filter(ImageFilter.GaussianBlur(0.02 * side))
    mixed = padded + (np.asarray(blurred, dtype=np.float32) - padded) * np.clip(3 * far, 0, 1)
    median = np.median(region, axis=(0, 1)).astype(np.float32)
    mixed += (median - mixed) * far
    rounded: Pixels = np.rint(mixed).astype(np.uint8)
    return rounded


def _warp(image: Image.Image, origin: Floats, axes: Floats, size: tuple[int, int]) -> Image.Image:
    """Resample by a similarity: the point q of the result shows `origin + axes @ q`.

    The image is brought to the resolution of the result first (Lanczos, so that nothing aliases),
    then sampled from a finer copy. Turned by no angle, one Lanczos step does it all, and the same
    pixels come back unchanged.
    """
    scale = float(np.linalg.norm(axes[:, 0]))
    whole = axes @ size
    if abs(axes[1, 0]) < 1e-9 and axes[0, 0] > 0 and axes[1, 1] > 0:
        box = (*origin, *(origin + whole))
        if min(box) >= 0 and box[2] <= image.width and box[3] <= image.height:
            return image.resize(size, Image.Resampling.LANCZOS, box=box)
    corners = origin + np.array([(0, 0), axes[:, 0] * size[0], axes[:, 1] * size[1], whole])
    margin = 3 + math.ceil(3 * scale)
    low = np.clip(np.floor(corners.min(axis=0)) - margin, 0, image.size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + margin, 0, image.size).astype(int)
    part = image.crop((*low, *high))
    for factor in (1 / scale, _OVERSAMPLING) if scale > 1 else (_OVERSAMPLING,):
        finer = math.ceil(part.width * factor), math.ceil(part.height * factor)
        ratio = np.divide(finer, part.size)
        part = part.resize(finer, Image.Resampling.LANCZOS)
        origin = (origin - low) * ratio
        axes, low = axes * ratio[:, None], np.zeros(2, dtype=int)
    coefficients = (*axes[0], origin[0], *axes[1], origin[1])
    return part.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _feathered_mask(
    place: CropPlace, low: NDArray[np.int_], high: NDArray[np.int_], feather: float
) -> NDArray[np.float32]:
    """[H,W] weights of the crop for the photo pixels from `low` to `high`: 0 outside, 1 inside."""
    x, y = (np.arange(first, last) + 0.5 for first, last in zip(low, high, strict=True))
    into_unit = np.linalg.inv(place.axes)
    mask = np.ones((len(y), len(x)), dtype=np.float32)
    left, right, top, bottom = (0, 1), (3, 2), (0, 3), (1, 2)
    for row, (first, last) in zip(into_unit, ((left, right), (top, bottom)), strict=True):
        place_x = row[0] * (x - place.quad[0, 0])
        place_y = row[1] * (y - place.quad[0, 1])
        position = (place_y[:, None] + place_x[None, :]).astype(np.float32)
        for distance, corners in ((position, first), (1 - position, last)):
            soft = feather > 0 and not _is_on_border(place, corners)
            # Smoothstep, so that neither end of the fade shows as a line.
            ramp = np.clip(distance / feather, 0, 1) if soft else (distance >= 0).astype(np.float32)
            mask *= ramp * ramp * (3 - 2 * ramp)
    return mask


def _is_on_border(place: CropPlace, corners: tuple[int, int]) -> bool:
    """Whether a side of the crop lies on or beyond one border of the photo."""
    ends = place.quad[list(corners)]
    return bool((ends <= 0).all(axis=0).any() or (ends >= place.photo_size).all(axis=0).any())
