from __future__ import annotations

import sys

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from sdic import alignment
from sdic.errors import InputError
from sdic.images import Pixels
from sdic.recognition import detection
from sdic.recognition.mtcnn import MTCNN, ONet, PNet, RNet, suppress

# Eyes, nose and corners of the mouth of the astronaut, read off the picture by hand.
ASTRONAUT = np.array(
    [[204.5, 101.0], [246.5, 103.0], [224.5, 126.5], [203.0, 140.5], [245.0, 142.0]]
)
FACE_HEIGHT = 113  # of MTCNN's box around it


def astronaut(face_height: float = FACE_HEIGHT) -> Pixels:
    side = round(512 * face_height / FACE_HEIGHT)
    picture = Image.fromarray(skimage.data.astronaut())
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


# --- without weights ----------------------------------------------------------------------------


def test_networks_have_the_shapes_of_the_paper() -> None:
    # Figure 2: P-Net is one cell for 12x12 and steps by 2; R-Net sees 24x24, O-Net 48x48.
    score, box = PNet()(torch.zeros(1, 3, 12, 12))
    assert (score.shape, box.shape) == ((1, 1, 1), (1, 4, 1, 1))
    score, box = PNet()(torch.zeros(1, 3, 12 + 2 * 7, 12 + 2 * 4))
    assert (score.shape, box.shape) == ((1, 8, 5), (1, 4, 8, 5))
    score, box = RNet()(torch.zeros(5, 3, 24, 24))
    assert (score.shape, box.shape) == ((5,), (5, 4))
    score, box, points = ONet()(torch.zeros(5, 3, 48, 48))
    assert (score.shape, box.shape, points.shape) == ((5,), (5, 4), (5, 5, 2))
    counts = [sum(p.numel() for p in net().parameters()) for net in (PNet, RNet, ONet)]
    assert counts == [6_632, 100_178, 389_040]


def test_suppress_keeps_what_a_matrix_of_overlaps_keeps() -> None:
    random = np.random.default_rng(3)
    corners = random.uniform(0, 50, (60, 2))
    boxes = np.concatenate((corners, corners + random.uniform(5, 40, (60, 2))), axis=1)
    scores = random.uniform(size=60)
    for of_smaller in (False, True):
        alive, kept = set(range(60)), []
        while alive:
            best = max(alive, key=lambda index: scores[index])
            kept.append(best)
            alive = {i for i in alive - {best} if overlap(boxes[best], boxes[i], of_smaller) <= 0.4}
        assert suppress(boxes, scores, 0.4, of_smaller).tolist() == kept
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def overlap(a: np.ndarray, b: np.ndarray, of_smaller: bool) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (min(areas) if of_smaller else sum(areas) - width * height)


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (40, 40)])
def test_photos_too_small_for_a_face_have_none(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    detector = detection.MTCNNDetector(MTCNN(min_face=41))
    assert detector(np.full((*shape, 3), 90, dtype=np.uint8)) == []


def test_description_tells_the_smallest_face_of_this_photo() -> None:
    detector = detection.MTCNNDetector(MTCNN(min_face=20, thresholds=(0.6, 0.7, 0.85)))
    assert "20 pixels and more" in detector.describe(np.zeros((100, 100, 3), dtype=np.uint8))
    large = np.zeros((20, 4 * detection.MTCNN_SIDE, 3), dtype=np.uint8)
    assert "80 pixels and more, with scores of at least 0.85" in detector.describe(large)


def test_five_points_of_68_are_the_means_of_ffhq() -> None:
    landmarks = np.random.default_rng(0).uniform(size=(68, 2))
    five = detection.five_of_68(landmarks)
    np.testing.assert_allclose(five[0], sum(landmarks[i] for i in range(36, 42)) / 6)
    np.testing.assert_allclose(five[1], sum(landmarks[i] for i in range(42, 48)) / 6)
    np.testing.assert_array_equal(five[2:], landmarks[[30, 48, 54]])


def test_unknown_detector_and_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="known are: mtcnn, dlib"):
        detection.load_detector("eyes")
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(InputError, match=r"sdic\[dlib\]"):
        detection.load_detector("dlib")


# --- with the published weights -----------------------------------------------------------------


@pytest.fixture(scope="module")
def mtcnn() -> detection.Detector:
    return detection.load_detector("mtcnn")


@pytest.mark.network
def test_astronaut_is_found_where_she_is(mtcnn: detection.Detector) -> None:
    (face,) = mtcnn(astronaut())
    assert face.score > 0.99
    assert np.linalg.norm(face.points - ASTRONAUT, axis=1).max() < 3.5
    left, top, right, bottom = face.box
    assert (face.points >= (left, top)).all()
    assert (face.points <= (right, bottom)).all()


@pytest.mark.network
def test_faces_of_several_sizes_are_sorted(mtcnn: detection.Detector) -> None:
    scene = np.full((500, 1000, 3), 128, dtype=np.uint8)
    expected = []
    for left, height in ((20, 64), (350, 90), (800, 32)):
        part = astronaut(height)
        scene[40 : 40 + len(part), left : left + len(part)] = part
        expected.append((height, left, ASTRONAUT * len(part) / 512 + (left, 40)))
    faces = mtcnn(scene)
    for face, (height, _, points) in zip(faces, sorted(expected, key=lambda e: -e[0]), strict=True):
        assert np.linalg.norm(face.points - points, axis=1).max() < 0.06 * height


@pytest.mark.network
def test_turned_cut_and_lonely_faces(mtcnn: detection.Detector) -> None:
    picture = Image.fromarray(astronaut())
    for degrees in (-30, 30):
        turned = mtcnn(np.asarray(picture.rotate(degrees)))
        assert len(turned) == 1
        across = turned[0].points[1] - turned[0].points[0]
        angle = -np.degrees(np.arctan2(across[1], across[0]))
        assert angle == pytest.approx(degrees - 2.7, abs=4)
    assert len(mtcnn(np.asarray(picture.crop((181, 60, 268, 174)).resize((64, 64))))) == 1
    assert mtcnn(np.ascontiguousarray(skimage.data.coffee())) == []


@pytest.mark.network
def test_mtcnn_and_dlib_agree_on_the_crop(mtcnn: detection.Detector) -> None:
    pytest.importorskip("dlib")
    photo = astronaut()
    (ours,) = alignment.find_places(photo, "largest", mtcnn)
    (face,) = detection.load_detector("dlib")(photo)
    assert face.landmarks is not None
    assert np.linalg.norm(face.points - ASTRONAUT, axis=1).max() < 3.5
    dlib_place = alignment.place_of_face(face, (512, 512))
    distance = np.linalg.norm(ours.quad - dlib_place.quad, axis=1).mean()
    assert distance < 0.05 * dlib_place.side
