"""Recognition networks: against stored outputs of their own runtimes, and what holds for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from recognition_images import DATA, generated_faces, smooth_image
from rounding import close
from sdic import generators, recognition, weights
from sdic.editing import library
from sdic.editing.direction import Edit
from sdic.encoders.layers import SameConv2d, pad_same
from sdic.errors import InputError, WeightsError
from sdic.recognition import attributes, face_api, landmarks, probes
from sdic.recognition.base import Network
from sdic.recognition.dlib_resnet import DlibResNet
from sdic.recognition.emotion import Emotion
from sdic.recognition.face_api import FaceApiAgeGender, FaceApiExpression, FaceApiLandmarks
from sdic.recognition.faceres import FaceRes, expected_age
from sdic.recognition.mobilefacenet import MobileFaceNet
from sdic.recognition.preprocessing import DLIB_MEAN, Crop, subtract, to_bytes
from sdic.recognition.tensorflow import TensorReader, max_pool_same
from sdic.runtime.backends import accelerate

RECOGNISERS = (MobileFaceNet, DlibResNet, FaceRes)
NETWORKS = (*RECOGNISERS, FaceApiAgeGender, FaceApiExpression, FaceApiLandmarks, Emotion)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.cat([smooth_image(), generated_faces()])


@pytest.fixture(scope="module")
def references() -> dict[str, Tensor]:
    with np.load(DATA / "references.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


# Preprocessing and layers


def test_crop_is_pillows_antialiased_bilinear() -> None:
    image = smooth_image()
    crop = Crop(rows=(31, 235), columns=(26, 230), size=112)
    region = image[0, :, 31:235, 26:230].numpy()
    expected = [
        Image.fromarray(channel, mode="F").resize((112, 112), Image.Resampling.BILINEAR)
        for channel in np.ascontiguousarray(region)
    ]
    assert np.allclose(crop(image)[0].numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("side", "before", "after"), [(5, 1, 1), (4, 0, 1), (112, 0, 1)])
def test_same_padding_puts_the_odd_pixel_last(side: int, before: int, after: int) -> None:
    padded = pad_same(torch.ones(1, 1, side, side), 3, 2)
    assert padded.shape[-1] == side + before + after
    assert padded[0, 0, 1, 0] == (0 if before else 1)
    assert padded[0, 0, 1, -1] == (0 if after else 1)


def test_same_convolution_counts_the_pixels_under_its_window() -> None:
    layer = SameConv2d(1, 1, 3, 2)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    counts = layer(torch.ones(1, 1, 4, 4))[0, 0]
    assert torch.equal(counts, torch.tensor([[9.0, 6.0], [6.0, 4.0]]))


def test_same_pool_ignores_the_padding() -> None:
    assert torch.equal(
        max_pool_same(torch.full((1, 1, 5, 5), -3.0)), torch.full((1, 1, 3, 3), -3.0)
    )


# Every network


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_reach_images_but_no_weights(kind: type[Network]) -> None:
    torch.manual_seed(0)
    network = kind().freeze()
    image = smooth_image().requires_grad_()
    result = network(image)
    outputs = result if isinstance(result, Tensor) else sum(result)
    # A sum of squares, for softmaxes and unit vectors have constant sums.
    (outputs * torch.randn_like(outputs)).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_other_sizes_and_types_are_refused(kind: type[Network]) -> None:
    network = kind()
    with pytest.raises(InputError, match="Nx3x256x256"):
        network(torch.zeros(1, 3, 128, 128))
    with pytest.raises(InputError, match="floating point"):
        network(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))


@pytest.mark.parametrize("kind", NETWORKS)
def test_missing_tensors_are_named(kind: type[Network]) -> None:
    with pytest.raises(WeightsError, match=kind.name):
        kind().load_tensors({})


@pytest.mark.parametrize("kind", RECOGNISERS)
def test_embeddings_are_unit_vectors(kind: type[recognition.Recogniser]) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        embeddings = kind()(generated_faces())
    assert embeddings.shape == (2, kind.dimensions)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)


def test_surplus_and_misshapen_tensors_are_refused() -> None:
    reader = TensorReader("test", {"kernel": torch.zeros(3, 2), "clip": torch.tensor(6.0)})
    with pytest.raises(WeightsError, match="no place"):
        reader.finish()
    with pytest.raises(WeightsError, match="shape"):
        reader.fill(nn.Linear(2, 3), "kernel")
    reader.fill(nn.Linear(3, 2), "kernel")
    reader.finish()


def test_unknown_recogniser_is_refused() -> None:
    with pytest.raises(InputError, match="fr-feature"):
        recognition.create("nobody")


# Landmarks


def projected_face(yaw: float, pitch: float, roll: float) -> Tensor:
    """The mean face turned by angles in degrees, seen at 90 pixels between the eyes: [1,68,2]."""
    a, b, c = (float(angle) for angle in np.deg2rad([yaw, pitch, roll]))
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn = about_z @ about_y @ about_x
    points = np.zeros((1, 68, 2))
    for index, place in landmarks.MEAN_FACE.items():
        points[0, index] = 90 * (turn @ place)[:2] + (128, 140)
    return torch.from_numpy(points)


@pytest.mark.parametrize("yaw", [-40.0, -5.0, 0.0, 30.0])
@pytest.mark.parametrize("roll", [-10.0, 0.0])
def test_pose_of_a_turned_mean_face(yaw: float, roll: float) -> None:
    found = landmarks.pose(projected_face(yaw, 0.0, 0.0))
    assert found.yaw.item() == pytest.approx(yaw, abs=1e-6)
    assert found.roll.item() == pytest.approx(0.0, abs=1e-6)
    leaning = landmarks.pose(projected_face(0.0, 0.0, roll))
    assert leaning.roll.item() == pytest.approx(roll, abs=1e-6)


@pytest.mark.parametrize("pitch", [-20.0, 0.0, 15.0])
def test_pitch_of_a_turned_mean_face(pitch: float) -> None:
    assert landmarks.pose(projected_face(0.0, pitch, 0.0)).pitch.item() == pytest.approx(pitch)


def test_positive_yaw_moves_the_nose_right_and_positive_pitch_up() -> None:
    straight = projected_face(0.0, 0.0, 0.0)[0, 30]
    assert projected_face(20.0, 0.0, 0.0)[0, 30, 0] > straight[0]
    assert projected_face(0.0, 20.0, 0.0)[0, 30, 1] < straight[1]


def test_pose_does_not_depend_on_place_and_size() -> None:
    points = projected_face(25.0, 10.0, 5.0)
    moved = landmarks.pose(points * 0.37 + 11)
    for angle, expected in zip(moved, landmarks.pose(points), strict=True):
        assert torch.allclose(angle, expected, atol=1e-6)


def test_mouth_and_eyes_in_closed_form() -> None:
    points = torch.zeros(1, 68, 2)
    points[0, 36], points[0, 45] = torch.tensor([0.0, 0.0]), torch.tensor([100.0, 0.0])
    points[0, 39], points[0, 42] = torch.tensor([30.0, 0.0]), torch.tensor([70.0, 0.0])
    for top, bottom in ((37, 41), (38, 40), (43, 47), (44, 46)):
        points[0, top, 1], points[0, bottom, 1] = -3.0, 3.0
    for top, bottom in ((61, 67), (62, 66), (63, 65)):
        points[0, top, 1], points[0, bottom, 1] = 50.0, 70.0
    assert landmarks.eyes_open(points).item() == pytest.approx(6 / 30)
    assert landmarks.mouth_open(points).item() == pytest.approx(20 / 100)


def test_other_landmarks_are_refused() -> None:
    for measure in (landmarks.pose, landmarks.mouth_open, landmarks.eyes_open):
        with pytest.raises(InputError, match="Nx68x2"):
            measure(torch.zeros(1, 5, 2))


# Attributes


@pytest.mark.parametrize("name", recognition.list_attributes())
def test_every_attribute_has_two_independent_networks(name: str) -> None:
    attribute = recognition.get_attribute(name)
    assert attribute.name == name
    assert attribute.labelling.network != attribute.judging.network
    assert attribute.low < attribute.high
    assert attribute.unit in ("years", "degrees", "ratio", "probability")


def test_unknown_attribute_and_role_are_refused() -> None:
    with pytest.raises(InputError, match="happiness"):
        recognition.get_attribute("charm")
    with pytest.raises(InputError, match="labelling"):
        recognition.create_scorer("age", "guessing")  # type: ignore[arg-type]


def test_log_odds_belong_to_the_softmax() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0], [5.0, 5.0, 5.0]])
    for index in range(3):
        odds = attributes.log_odds(logits, index)
        assert torch.allclose(odds.sigmoid(), logits.softmax(1)[:, index], atol=1e-6)
    assert attributes.log_odds(torch.tensor([[60.0, 0.0, 0.0]]), 0).item() > 59


def test_expected_age_in_closed_form() -> None:
    certain = torch.full((1, 100), -100.0)
    certain[0, 37] = 100.0
    assert expected_age(certain).item() == pytest.approx(37)
    assert expected_age(torch.zeros(1, 100)).item() == pytest.approx(49.5)


# Against the networks' own runtimes


@pytest.mark.network
def test_fr_feature_against_onnxruntime(images: Tensor, references: dict[str, Tensor]) -> None:
    network = MobileFaceNet.pretrained()
    embeddings = network.describe(network.preprocess(images))
    assert torch.allclose(embeddings, references["fr_feature"], atol=1e-5)


@pytest.mark.network
def test_dlib_against_the_library(images: Tensor, references: dict[str, Tensor]) -> None:
    network = DlibResNet.pretrained()
    # The library takes bytes.
    crop = Crop(rows=(69, 243), columns=(41, 215), size=150)
    chips = to_bytes(crop(images)).round().clamp(0, 255)
    descriptors = network.describe(subtract(chips, DLIB_MEAN) / 256)
    close(descriptors, references["dlib"], 1e-3)  # where one byte of a face is another, 1e-4
    stored = (references["dlib"][1] - references["dlib"][2]).norm()
    assert network.compare(images[1:2], images[2:]).item() == pytest.approx(stored.item(), abs=5e-3)


@pytest.mark.network
def test_faceres_against_tensorflow_js(images: Tensor, references: dict[str, Tensor]) -> None:
    result = FaceRes.pretrained().judge(images)
    for key, value in result._asdict().items():
        assert torch.allclose(value, references[f"faceres_{key}"], atol=1e-4), key


@pytest.mark.network
def test_face_api_against_its_own_code(images: Tensor, references: dict[str, Tensor]) -> None:
    expressions = FaceApiExpression.pretrained()(images).softmax(1)
    assert torch.allclose(expressions, references["face_api_expression"], atol=1e-5)
    age, gender = FaceApiAgeGender.pretrained()(images)
    assert torch.allclose(age, references["face_api_age"], atol=1e-4)
    assert torch.allclose(gender.sigmoid(), references["face_api_male"], atol=1e-5)
    points = FaceApiLandmarks.pretrained().judge_inputs(face_api.preprocess(images))
    assert torch.allclose(points, references["face_api_landmarks"], atol=1e-5)


@pytest.mark.network
def test_emotion_against_tensorflow_js(images: Tensor, references: dict[str, Tensor]) -> None:
    assert torch.allclose(Emotion.pretrained()(images), references["emotion"], atol=1e-4)


@pytest.mark.network
@pytest.mark.parametrize("role", ["labelling", "judging"])
def test_scorers_read_the_generated_faces(role: attributes.Role) -> None:
    if role == "judging":
        pytest.importorskip("dlib")
    faces = generated_faces()
    scorers = recognition.create_scorers(recognition.list_attributes(), role)
    with torch.no_grad():
        values = {name: scorer(faces) for name, scorer in scorers.items()}
        mirrored = scorers["yaw"](faces.flip(3))
        margin = scorers["happiness"].margin(faces)
    for name, scorer in scorers.items():
        assert values[name].shape == (2,)
        assert (values[name] >= scorer.attribute.low).all(), name
        assert (values[name] <= scorer.attribute.high).all(), name
    assert (values["happiness"] > 0.5).all()
    assert torch.allclose(margin.sigmoid(), values["happiness"])
    assert (values["gender"] < 0.5).all()
    # The first face looks a little to the right, the second far to the left.
    assert values["yaw"][1] < -20 < 5 < values["yaw"][0]
    assert torch.allclose(mirrored, -values["yaw"], atol=8.0)


@pytest.mark.network
@pytest.mark.parametrize("name", recognition.list_recognisers())
def test_a_disturbed_copy_is_the_same_person(name: str) -> None:
    faces = generated_faces()
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    copies = (faces.roll(3, dims=3) * 0.85 + 0.05 + 0.03 * noise).clamp(-1, 1)
    recogniser = recognition.create(name)
    with torch.no_grad():
        same = recogniser.compare(faces, copies)
        different = recogniser.compare(faces, copies.flip(0))
    middle = 0.5 * (recogniser.same_person + recogniser.different_people)
    sign = 1 if recogniser.measure == "cosine" else -1
    assert (sign * same > sign * middle).all()
    assert (sign * different < sign * middle).all()


def test_registered_weights_cover_every_network() -> None:
    assert {kind.weights for kind in NETWORKS} <= set(weights.names())


# Probes


def test_a_probe_is_a_linear_layer_on_its_part_of_the_face() -> None:
    probe = probes.Glasses().freeze()
    weight = torch.zeros(1, 1280)
    weight[0, 7] = 2
    probe.load_tensors({"weight": weight, "bias": torch.tensor([3.0])})
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = probe(images)
    close(values, 2 * probe.features(images)[:, 7] + 3)
    other = images.clone()
    other[:, :, 200:] = 0
    assert torch.equal(probe(other), values)
    with pytest.raises(WeightsError, match="glasses"):
        probe.load_tensors({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)})


@pytest.mark.network
def test_painted_glasses_are_seen() -> None:
    faces = generated_faces()[:1]
    painted = faces.clone()
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    for centre in (103, 154):
        radius = torch.hypot((x - centre) / 24, (y - 122) / 17)
        painted[:, :, (radius > 0.85) & (radius < 1.05)] = -0.95
    painted[:, :, 118:122, 122:134] = -0.95
    plain, with_glasses = probes.Glasses.pretrained()(torch.cat([faces, painted])).tolist()
    assert plain < 0 < with_glasses


@pytest.mark.network
@pytest.mark.parametrize(("name", "low", "high"), [("beard", -3.0, 2.0), ("glasses", -2.0, 3.5)])
def test_probes_follow_the_directions_that_ship(name: str, low: float, high: float) -> None:
    generator = accelerate(generators.create("mobile"))
    man = generator.broadcast(generator.mean_latent[None] + 2 * library.get("gender").vector)
    edits = [Edit.of(library.get(name), strength) for strength in (low, high)]
    with torch.inference_mode():
        images = torch.cat([generator(edit.apply(man), 256) for edit in edits])
        without, with_it = probes.PROBES[name].pretrained()(images.clamp(-1, 1)).tolist()
    assert without < 0 < with_it
