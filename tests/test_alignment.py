from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import skimage.data
import skimage.transform
from PIL import Image

from sdic import alignment
from sdic.alignment import CropPlace
from sdic.errors import InputError, NoFaceError
from sdic.images import Pixels
from sdic.recognition.detection import Face

# Eyes, nose and corners of the mouth of the astronaut, read off the picture by hand.
ASTRONAUT = np.array(
    [[204.5, 101.0], [246.5, 103.0], [224.5, 126.5], [203.0, 140.5], [245.0, 142.0]]
)


def astronaut(side: int = 512) -> Pixels:
    picture = Image.fromarray(skimage.data.astronaut())
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def face(points: np.ndarray = ASTRONAUT, landmarks: np.ndarray | None = None) -> Face:
    (left, top), (right, bottom) = points.min(axis=0) - 20, points.max(axis=0) + 20
    return Face((left, top, right, bottom), points, 1.0, landmarks)


def astronaut_place(side: int = 512) -> CropPlace:
    return alignment.place_of_face(face(ASTRONAUT * side / 512), (side, side))


def turned_place(
    centre: tuple[float, float], side: float, degrees: float, photo_size: tuple[int, int]
) -> CropPlace:
    angle = math.radians(degrees)
    right = np.array([math.cos(angle), math.sin(angle)]) * side / 2
    down = np.array([-right[1], right[0]])
    corners = [-right - down, -right + down, right + down, right - down]
    return CropPlace(np.array(corners) + np.array(centre), photo_size)


def psnr(a: Pixels, b: Pixels, mask: np.ndarray | None = None) -> float:
    errors = (a.astype(np.float64) - b) ** 2
    error = errors.mean() if mask is None else errors[mask].mean()
    return float(10 * np.log10(255**2 / error)) if error else math.inf


def inside(place: CropPlace, shape: tuple[int, ...]) -> np.ndarray:
    """[H,W]: which pixels of the photo have their middle in the crop; by the signs of areas."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    result = np.ones(shape[:2], dtype=bool)
    for first, second in zip(place.quad, np.roll(place.quad, -1, axis=0), strict=True):
        along = second - first
        result &= along[0] * (y - first[1]) - along[1] * (x - first[0]) <= 0
    return result


# --- the quad -----------------------------------------------------------------------------------


def test_quad_of_a_face_by_hand() -> None:
    # Eyes 100 apart at height 200, mouth 120 below: the side is 2 * max(2 * 100, 1.8 * 120) = 432,
    # the middle is 0.1 * 120 below the eyes.
    points = np.array([[250, 200], [350, 200], [300, 260], [270, 320], [330, 320]], dtype=float)
    expected = [[84, -4], [84, 428], [516, 428], [516, -4]]
    np.testing.assert_allclose(alignment.ffhq_quad(points), expected)


@pytest.mark.parametrize("degrees", [-70, -20, 35, 180])
def test_quad_turns_moves_and_grows_with_the_face(degrees: float) -> None:
    angle = math.radians(degrees)
    turn = 3.5 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = np.array([40, -300])
    moved = alignment.ffhq_quad(ASTRONAUT @ turn.T + shift)
    np.testing.assert_allclose(moved, alignment.ffhq_quad(ASTRONAUT) @ turn.T + shift)


def test_only_five_point_faces_are_corrected() -> None:
    of_mtcnn = alignment.place_of_face(face(), (512, 512))
    of_dlib = alignment.place_of_face(face(landmarks=np.zeros((68, 2))), (512, 512))
    np.testing.assert_allclose(of_dlib.quad, alignment.ffhq_quad(ASTRONAUT))
    assert 0.95 < of_mtcnn.side / of_dlib.side < 1
    assert np.abs(of_mtcnn.quad - of_dlib.quad).max() < 0.03 * of_dlib.side


def test_place_travels_as_json() -> None:
    place = astronaut_place()
    again = CropPlace.from_dict(json.loads(json.dumps(place.to_dict())))
    np.testing.assert_array_equal(again.quad, place.quad)
    assert again.photo_size == place.photo_size


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"quad": [[0, 0]], "photo_size": [5, 5]},
        {"quad": [[0, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [0, 5]},
        {"quad": [[0, 0], [0, 9], [20, 9], [20, 0]], "photo_size": [50, 50]},
        {"quad": [[0, 0], [9, 0], [9, 9], [0, 9]], "photo_size": [50, 50]},
        {"quad": [[math.nan, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [50, 50]},
        {"quad": [[math.inf, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [50, 50]},
        {"quad": [[10**400, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [50, 50]},
        {"quad": [[0, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [math.inf, 50]},
        {"quad": [[0, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [math.nan, 50]},
        {"quad": [[0, 0], [0, 9], [9, 9], [9, 0]], "photo_size": [50, 50, 50]},
        {"quad": [[0, 0], [0, 1e-9], [1e-9, 1e-9], [1e-9, 0]], "photo_size": [50, 50]},
        {"quad": "x" * 9000, "photo_size": [50, 50]},
        [[0, 0]],
        None,
    ],
)
def test_what_is_not_a_place(values: Any) -> None:
    with pytest.raises(InputError, match="not the place of a crop") as raised:
        CropPlace.from_dict(values)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("side", [1e308, 1e8, 1000.0])
@pytest.mark.parametrize("corner", [0.0, -1e6, 1e6])
def test_a_place_far_outside_its_photo(side: float, corner: float) -> None:
    x = corner + np.array([0, 0, side, side])
    y = corner + np.array([0, side, side, 0])
    values = {"quad": np.stack((x, y), axis=1).tolist(), "photo_size": [50, 50]}
    rgb = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(InputError, match=r"place of (a|the) crop"):
        alignment.paste_back(rgb, np.zeros((8, 8, 3), np.uint8), CropPlace.from_dict(values))


# --- the crop -----------------------------------------------------------------------------------


def test_aligned_photo_comes_through_untouched() -> None:
    photo = astronaut()
    place = alignment.aligned_place(photo)
    np.testing.assert_array_equal(alignment.crop(photo, place, 512), photo)
    changed = photo.copy()
    changed[5:20, 5:20] = 0
    np.testing.assert_array_equal(alignment.paste_back(photo, changed, place), changed)


def test_aligned_photo_that_is_not_square_gives_its_central_square() -> None:
    photo = astronaut()[:300]
    place = alignment.aligned_place(photo)
    np.testing.assert_array_equal(alignment.crop(photo, place, 300), photo[:, 106:406])


def test_quarter_turn_is_exact_geometry() -> None:
    photo = astronaut()
    place = turned_place((200, 220), 128, 90, (512, 512))
    expected = np.rot90(photo[156:284, 136:264])
    assert psnr(alignment.crop(photo, place, 128), expected) > 38


@pytest.mark.parametrize("size", [64, 256])
def test_crop_agrees_with_scikit_image(size: int) -> None:
    photo, place = astronaut(), astronaut_place()
    cut = alignment.crop(photo, place, size)
    assert (cut.shape, cut.dtype) == ((size, size, 3), np.uint8)
    # Four samples a side for each pixel, cubic, from the corners alone.
    fine = 4 * size
    ends = np.array([[0, 0], [0, fine], [fine, fine], [fine, 0]]) - 0.5
    transform = skimage.transform.estimate_transform("similarity", ends, place.quad - 0.5)
    sampled = skimage.transform.warp(photo, transform, output_shape=(fine, fine), order=3)
    reference = 255 * skimage.transform.downscale_local_mean(sampled, (4, 4, 1))
    errors = (cut.astype(np.float64) - reference)[4:-4, 4:-4] ** 2
    assert 10 * np.log10(255**2 / errors.mean()) > 33


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((1024, 1024, 3), dtype=np.uint8)
    stripes[:, ::2] = 254
    place = turned_place((512, 512), 600, 10, (1024, 1024))
    cut = alignment.crop(stripes, place, 100)
    assert np.abs(cut.astype(int) - 127).max() <= 4


def test_border_is_padded_smoothly_and_the_photo_stays_sharp() -> None:
    photo = astronaut()[60:, 150:]
    place = alignment.place_of_face(face(ASTRONAUT - (150, 60)), (362, 452))
    assert place.quad.min() < -5
    cut = alignment.crop(photo, place, 168)
    whole = alignment.crop(astronaut(), astronaut_place(), 168)
    kept = inside_photo(place, 168)
    assert 0.5 < kept.mean() < 0.95
    # Apart from the two rows where a filter reaches over the border.
    assert psnr(cut, whole, kept & np.roll(kept, 3, 0) & np.roll(kept, 3, 1)) > 50
    beyond = cut[~kept].astype(np.float64)
    assert 20 < beyond.mean() < 235  # mirrored picture, not black
    rows = np.abs(np.diff(cut.astype(np.float64), axis=0)).mean(axis=(1, 2))
    assert rows[:20].max() < 2 * rows[40:].max()  # no edge where the photo ends


def inside_photo(place: CropPlace, size: int) -> np.ndarray:
    """[size,size]: which pixels of the crop show the photo."""
    steps = (np.arange(size) + 0.5) / size
    v, u = np.meshgrid(steps, steps, indexing="ij")
    points = place.quad[0] + np.stack((u, v), axis=-1) @ place.axes.T
    return ((points >= 0) & (points < place.photo_size)).all(axis=-1)


def test_far_padding_fades_to_the_median() -> None:
    photo = astronaut()[100:140, 200:240]
    place = turned_place((0, 0), 150, 0, (40, 40))
    cut = alignment.crop(photo, place, 150)
    median = np.median(photo, axis=(0, 1))
    assert np.abs(cut[:3, :3] - median).max() <= 8


def test_wrong_crops() -> None:
    photo, place = astronaut(), astronaut_place()
    with pytest.raises(InputError, match="in one of 512x512"):
        alignment.crop(photo[:100], place)
    with pytest.raises(InputError, match="at least 1 pixel"):
        alignment.crop(photo, place, 0)
    for outside in (
        turned_place((-200, 100), 100, 0, (512, 512)),
        turned_place((200, 200), 5000, 0, (512, 512)),
    ):
        with pytest.raises(InputError, match="outside the photo, or is far larger"):
            alignment.crop(photo, outside)


# --- the way back -------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "size"), [(7, 1024), (0, 256), (-31, 256)])
def test_round_trip_of_a_large_photo(degrees: float, size: int) -> None:
    photo = astronaut(2 * size)
    place = turned_place((0.9 * size, 0.6 * size), 0.95 * size, degrees, (2 * size, 2 * size))
    pasted = alignment.paste_back(photo, alignment.crop(photo, place, size), place)
    mask = inside(place, photo.shape)
    assert psnr(photo, pasted, mask) > 38
    np.testing.assert_array_equal(pasted[~mask], photo[~mask])


def test_round_trip_of_a_sharp_photo_and_of_one_at_the_border() -> None:
    photo = astronaut()
    for place in (astronaut_place(), turned_place((40, 470), 200, 15, (512, 512))):
        pasted = alignment.paste_back(photo, alignment.crop(photo, place, 512), place)
        assert psnr(photo, pasted, inside(place, photo.shape)) > 38


@pytest.mark.parametrize("feather", [0, 0.1, 0.5])
def test_paste_changes_nothing_outside_and_all_in_the_middle(feather: float) -> None:
    photo, place = astronaut(), turned_place((250, 250), 200, 20, (512, 512))
    before = photo.copy()
    edited = np.full((300, 300, 3), (10, 250, 30), dtype=np.uint8)
    pasted = alignment.paste_back(photo, edited, place, feather)
    np.testing.assert_array_equal(photo, before)
    mask = inside(place, photo.shape)
    np.testing.assert_array_equal(pasted[~mask], photo[~mask])
    core = inside(
        turned_place((250, 250), 200 * (1 - 2 * feather) - 2, 20, (512, 512)), photo.shape
    )
    assert (pasted[core] == (10, 250, 30)).all()
    changed = (pasted != photo).any(axis=-1)
    assert changed[mask].mean() > (0.97 if feather == 0 else 0.9)


def test_fade_is_gradual() -> None:
    photo = np.zeros((300, 300, 3), dtype=np.uint8)
    white = np.full((100, 100, 3), 255, dtype=np.uint8)
    place = turned_place((150, 150), 200, 0, (300, 300))
    line = alignment.paste_back(photo, white, place, 0.2)[150, :, 0].astype(int)
    assert (line[:50] == 0).all()
    assert (np.diff(line[50:91]) >= 0).all()
    assert np.diff(line[50:91]).max() < 15
    assert line[70] == pytest.approx(127, abs=5)
    assert (line[91:200] == 255).all()


def test_only_the_difference_can_be_pasted() -> None:
    photo, place = astronaut(), astronaut_place()
    cut = alignment.crop(photo, place, 128)
    same = alignment.paste_back(photo, cut, place, original_crop=cut)
    np.testing.assert_array_equal(same, photo)
    brighter = np.clip(cut.astype(int) + 20, 0, 255).astype(np.uint8)
    pasted = alignment.paste_back(photo, brighter, place, original_crop=cut)
    middle = (slice(90, 130), slice(210, 240))
    gained = pasted[middle].astype(int) - photo[middle]
    assert np.median(gained) == 20
    detail = np.abs(np.diff(pasted[middle].astype(float), axis=0)).mean()
    assert detail == pytest.approx(
        np.abs(np.diff(photo[middle].astype(float), axis=0)).mean(), 0.02
    )


def test_wrong_pastes() -> None:
    photo, place = astronaut(), astronaut_place()
    with pytest.raises(InputError, match="a square of one size"):
        alignment.paste_back(photo, photo[:100], place)
    with pytest.raises(InputError, match="a square of one size"):
        alignment.paste_back(photo, photo, place, original_crop=photo[:100, :100])
    with pytest.raises(InputError, match=r"0 to 0\.5"):
        alignment.paste_back(photo, photo, place, feather=0.6)
    with pytest.raises(InputError, match="in one of 512x512"):
        alignment.paste_back(photo[:100], photo, place)


# --- choosing -----------------------------------------------------------------------------------


class TwoFaces:
    """Stands in for a detector: two faces in a bright photo, none in a dark one."""

    name = "mtcnn"

    def __call__(self, rgb: Pixels) -> list[Face]:
        return [face(), face(ASTRONAUT + 100)] if rgb.mean() > 50 else []

    def describe(self, rgb: Pixels) -> str:
        return "it was looked for"


def test_choose_faces() -> None:
    faces = TwoFaces()(astronaut())
    assert alignment.choose_faces(faces, "all") == faces
    assert alignment.choose_faces(faces, "largest") == faces[:1]
    assert alignment.choose_faces(faces, 1) == faces[1:]
    for wrong in (2, -1):
        with pytest.raises(NoFaceError, match=f"Face {wrong} was asked for.*has 2 faces"):
            alignment.choose_faces(faces, wrong)


def test_no_face_says_what_was_tried_and_what_to_do() -> None:
    with pytest.raises(NoFaceError) as caught:
        alignment.find_places(np.zeros((20, 30, 3), dtype=np.uint8), "largest", TwoFaces())
    for part in (
        "30x20 pixels",
        "it was looked for",
        "Turn the photo upright",
        "--aligned",
        "dlib",
    ):
        assert part in str(caught.value)
