"""Attributes of faces by name: age, gender, expressions, pose, how open mouth and eyes are.

Each attribute has two readings by independent networks: one labels the samples that a direction is
fitted to, the other judges what an edit with that direction changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from sdic.errors import InputError
from sdic.recognition import emotion, face_api, landmarks
from sdic.recognition.dlib_landmarks import DlibLandmarks
from sdic.recognition.faceres import FaceRes, expected_age

Role = Literal["labelling", "judging"]
ROLES = ("labelling", "judging")
# A network of this module's registry and aligned images, to one value for each image.
Reader = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """One network's way to read an attribute.

    Attributes:
        network: name of the network.
        load: gives the network with its weights.
        read: the network and images [N,3,256,256] to values [N]; log-odds for a probability.
    """

    network: str
    load: Callable[[], nn.Module]
    read: Reader


@dataclass(frozen=True)
class Attribute:
    """What is read, in which unit, and by which two networks.

    Attributes:
        name: key in the registry.
        unit: "years", "degrees", "ratio" or "probability".
        low: lower end of the range; of a probability or ratio a bound, else what is usual.
        high: upper end of the range.
        meaning: what a high value says.
        labelling: the reading that labels samples.
        judging: the independent reading that judges edits.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str
    labelling: Reading
    judging: Reading


class AttributeScorer(nn.Module):
    """One reading of an attribute, with its network loaded.

    Call it for values in the attribute's unit; `margin` never saturates, so rank with that.
    Gradients flow to the images, except through dlib's landmarks.

    Attributes:
        attribute: what is read.
        role: "labelling" or "judging".
        network: name of the network that reads.
    """

    def __init__(self, attribute: Attribute, role: Role, network: nn.Module) -> None:
        super().__init__()
        self.attribute = attribute
        self.role = role
        self._reading = attribute.labelling if role == "labelling" else attribute.judging
        self._network = network
        self.network = self._reading.network

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,256,256] in [-1,1], FFHQ-aligned, to values [N] in the attribute's unit."""
        margin = self.margin(images)
        return margin.sigmoid() if self.attribute.unit == "probability" else margin

    def margin(self, images: Tensor) -> Tensor:
        """Log-odds [N] where the unit is a probability, else the value itself."""
        return self._reading.read(self._network, images)


def list_attributes() -> list[str]:
    """Names that `create_scorer` and `get_attribute` know."""
    return sorted(_ATTRIBUTES)


def get_attribute(name: str) -> Attribute:
    """The registry entry of an attribute.

    Raises:
        InputError: no attribute has this name.
    """
    if name not in _ATTRIBUTES:
        raise InputError(
            f"There is no attribute '{name}': choose one of {', '.join(list_attributes())}."
        )
    return _ATTRIBUTES[name]


def create_scorer(name: str, role: Role = "labelling") -> AttributeScorer:
    """A scorer of one attribute; the weights of its network are fetched if needed.

    Raises:
        InputError: no attribute or role has this name, or dlib is wanted and not installed.
        WeightsError: weights cannot be fetched.
    """
    return create_scorers([name], role)[name]


def create_scorers(names: Iterable[str], role: Role = "labelling") -> dict[str, AttributeScorer]:
    """Scorers of several attributes by name; what reads more than one is loaded once.

    Raises:
        InputError: no attribute or role has this name, or dlib is wanted and not installed.
        WeightsError: weights cannot be fetched.
    """
    if role not in ROLES:
        raise InputError(f"There is no role '{role}': choose one of {', '.join(ROLES)}.")
    attributes = [get_attribute(name) for name in names]
    networks: dict[str, nn.Module] = {}
    for attribute in attributes:
        reading: Reading = getattr(attribute, role)
        if reading.network not in networks:
            networks[reading.network] = reading.load()
    return {
        attribute.name: AttributeScorer(attribute, role, networks[getattr(attribute, role).network])
        for attribute in attributes
    }


def log_odds(logits: Tensor, index: int) -> Tensor:
    """Log-odds [N] of one class of a softmax over logits [N,C]."""
    others = [i for i in range(logits.shape[1]) if i != index]
    return logits[:, index] - logits[:, others].logsumexp(1)


def _expression(name: str, label: str) -> Attribute:
    def reader(labels: Sequence[str]) -> Reader:
        index = labels.index(label)
        return lambda network, images: log_odds(network(images), index)

    return Attribute(
        name,
        "probability",
        0.0,
        1.0,
        label,
        Reading(
            face_api.FaceApiExpression.name,
            face_api.FaceApiExpression.pretrained,
            reader(face_api.EXPRESSIONS),
        ),
        Reading(emotion.Emotion.name, emotion.Emotion.pretrained, reader(emotion.EXPRESSIONS)),
    )


def _geometry(
    name: str,
    unit: str,
    span: tuple[float, float],
    meaning: str,
    measure: Callable[[Tensor], Tensor],
) -> Attribute:
    def read(network: Any, images: Tensor) -> Tensor:
        return measure(network(images))

    return Attribute(
        name,
        unit,
        *span,
        meaning,
        Reading(face_api.FaceApiLandmarks.name, face_api.FaceApiLandmarks.pretrained, read),
        Reading(DlibLandmarks.name, DlibLandmarks.pretrained, read),
    )


def _age_and_gender() -> tuple[Attribute, Attribute]:
    def reading(read: Reader) -> Reading:
        return Reading(FaceRes.name, FaceRes.pretrained, read)

    def second(read: Reader) -> Reading:
        return Reading(face_api.FaceApiAgeGender.name, face_api.FaceApiAgeGender.pretrained, read)

    age = Attribute(
        "age",
        "years",
        0.0,
        99.0,
        "old; faceres reads about 10 years too low, so rank with it",
        reading(lambda network, images: expected_age(network.judge(images).age)),
        second(lambda network, images: network(images).age),
    )
    gender = Attribute(
        "gender",
        "probability",
        0.0,
        1.0,
        "male, as the networks were taught the word",
        reading(lambda network, images: network.judge(images).gender),
        second(lambda network, images: network(images).gender),
    )
    return age, gender


_ATTRIBUTES = {
    attribute.name: attribute
    for attribute in (
        *_age_and_gender(),
        _expression("happiness", "happy"),
        _expression("sadness", "sad"),
        _expression("anger", "angry"),
        _expression("fear", "fearful"),
        _expression("disgust", "disgusted"),
        _expression("surprise", "surprised"),
        _expression("neutrality", "neutral"),
        _geometry(
            "yaw",
            "degrees",
            (-45.0, 45.0),
            "the face turns towards the right of the image",
            lambda points: landmarks.pose(points).yaw,
        ),
        _geometry(
            "pitch",
            "degrees",
            (-25.0, 25.0),
            "the face turns up",
            lambda points: landmarks.pose(points).pitch,
        ),
        _geometry("mouth-open", "ratio", (0.0, 0.5), "wide open", landmarks.mouth_open),
        _geometry("eyes-open", "ratio", (0.0, 0.5), "wide open", landmarks.eyes_open),
    )
}
