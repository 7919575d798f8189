"""Scorers: what a picture of a face shows, as one number for each image.

They label samples for InterFaceGAN and measure what an edit changes. Each has a second opinion
where the shelf of networks has one: who labels should not judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdic.editing.samples import Scorer
from sdic.errors import InputError

# Points of iBUG 300-W: jaw 0-16, nose 27-35, eyes 36-47, mouth 48-67 (inner lips from 60).
JAW_LEFT, JAW_RIGHT, CHIN = 2, 14, 8
NOSE_TIP = 30
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
MOUTH_LEFT, MOUTH_RIGHT = 48, 54
LIP_TOP, LIP_BOTTOM = 62, 66
LUMINANCE = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Attribute:
    """An entry of the shelf.

    Attributes:
        name: key, also of the direction fitted with it.
        high: what a high score means.
        low: what a low score means.
        unit: of the score.
        make: loads the networks and gives the scorer.
        judge: the same from another network, or None.
    """

    name: str
    high: str
    low: str
    unit: str
    make: Callable[[], Scorer]
    judge: Callable[[], Scorer] | None = None


def names() -> list[str]:
    """Keys of all attributes that `get` knows."""
    return sorted(ATTRIBUTES)


def get(name: str) -> Attribute:
    """An attribute by its key.

    Raises:
        InputError: there is none of this name.
    """
    if name not in ATTRIBUTES:
        raise InputError(f"There is no scorer '{name}'; known are: {', '.join(names())}.")
    return ATTRIBUTES[name]


def yaw(points: Tensor) -> Tensor:
    """Where the nose tip lies between the sides of the jaw: points [N,68,2] to [N] in about [-1,1].

    0 is frontal; positive looks to the right of the image.
    """
    left, right = points[:, JAW_LEFT, 0], points[:, JAW_RIGHT, 0]
    return (2 * points[:, NOSE_TIP, 0] - left - right) / (right - left)


def pitch(points: Tensor) -> Tensor:
    """How high the nose tip lies between mouth and eyes: points [N,68,2] to [N] in about [0,1].

    Positive and larger looks further up.
    """
    eyes = 0.5 * (points[:, LEFT_EYE, 1].mean(1) + points[:, RIGHT_EYE, 1].mean(1))
    mouth = 0.5 * (points[:, MOUTH_LEFT, 1] + points[:, MOUTH_RIGHT, 1])
    return (mouth - points[:, NOSE_TIP, 1]) / (mouth - eyes)


def mouth_open(points: Tensor) -> Tensor:
    """Gap of the inner lips over the width of the mouth: points [N,68,2] to [N]."""
    gap = (points[:, LIP_BOTTOM] - points[:, LIP_TOP]).norm(dim=1)
    ratio: Tensor = gap / (points[:, MOUTH_RIGHT] - points[:, MOUTH_LEFT]).norm(dim=1)
    return ratio


def eyes_open(points: Tensor) -> Tensor:
    """Eye aspect ratio (Soukupova, Cech 2016), mean of both eyes: points [N,68,2] to [N]."""
    ratios = []
    for eye in (LEFT_EYE, RIGHT_EYE):
        outer, up1, up2, inner, down2, down1 = points[:, eye].unbind(1)
        height = (up1 - down1).norm(dim=1) + (up2 - down2).norm(dim=1)
        ratios.append(height / (2 * (outer - inner).norm(dim=1)))
    return torch.stack(ratios).mean(0)


def face_width(points: Tensor) -> Tensor:
    """Width of the jaw over the height from the eyes to the chin: points [N,68,2] to [N]."""
    eyes = 0.5 * (points[:, LEFT_EYE, 1].mean(1) + points[:, RIGHT_EYE, 1].mean(1))
    width = points[:, JAW_RIGHT, 0] - points[:, JAW_LEFT, 0]
    return width / (points[:, CHIN, 1] - eyes)


def luminance(images: Tensor) -> Tensor:
    """Luminance [N,H,W] of images [N,3,H,W], in the same range."""
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMINANCE))


def brightness(images: Tensor) -> Tensor:
    """Mean luminance of the face: images [N,3,256,256] in [-1,1] to [N]."""
    return luminance(images)[:, 96:208, 80:176].mean((1, 2))


def light_side(images: Tensor) -> Tensor:
    """Luminance of the right cheek less that of the left, in the image: [N,3,256,256] to [N]."""
    cheeks = luminance(images)[:, 128:192, 72:184]
    return cheeks[..., 56:].mean((1, 2)) - cheeks[..., :56].mean((1, 2))


def warmth(images: Tensor) -> Tensor:
    """Red less blue over the whole image: [N,3,256,256] in [-1,1] to [N]."""
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def _of_landmarks(measure: Callable[[Tensor], Tensor]) -> Callable[[], Scorer]:
    def make() -> Scorer:
        from sdic.recognition.face_api import FaceApiLandmarks

        network = FaceApiLandmarks.pretrained()
        return lambda images: measure(network(images))

    return make


def _of_expression(expression: str) -> Callable[[], Scorer]:
    """Log-odds of one of seven expressions, by face-api."""

    def make() -> Scorer:
        from sdic.recognition.face_api import EXPRESSIONS, FaceApiExpression

        network = FaceApiExpression.pretrained()
        place = EXPRESSIONS.index(expression)
        return lambda images: _log_odds(network(images), place)

    return make


def _of_emotion(expression: str) -> Callable[[], Scorer]:
    """Log-odds of one of seven expressions, by emotion."""

    def make() -> Scorer:
        from sdic.recognition.emotion import EXPRESSIONS, Emotion

        network = Emotion.pretrained()
        place = EXPRESSIONS.index(expression)
        return lambda images: _log_odds(network(images), place)

    return make


def _log_odds(logits: Tensor, place: int) -> Tensor:
    others = torch.cat((logits[:, :place], logits[:, place + 1 :]), dim=1)
    return logits[:, place] - others.logsumexp(1)


def _age() -> Scorer:
    from sdic.recognition.faceres import FaceRes, expected_age

    network = FaceRes.pretrained()
    return lambda images: expected_age(network.judge(images).age)


def _gender() -> Scorer:
    from sdic.recognition.faceres import FaceRes

    network = FaceRes.pretrained()
    return lambda images: network.judge(images).gender


def _other_age() -> Scorer:
    from sdic.recognition.face_api import FaceApiAgeGender

    network = FaceApiAgeGender.pretrained()
    return lambda images: network(images).age


def _other_gender() -> Scorer:
    from sdic.recognition.face_api import FaceApiAgeGender

    network = FaceApiAgeGender.pretrained()
    return lambda images: network(images).gender


def _of_pixels(measure: Scorer) -> Callable[[], Scorer]:
    return lambda: measure


ATTRIBUTES = {
    attribute.name: attribute
    for attribute in (
        Attribute("age", "older", "younger", "years", _age, _other_age),
        Attribute("gender", "male", "female", "logit", _gender, _other_gender),
        Attribute(
            "smile",
            "smiling",
            "serious",
            "log-odds",
            _of_expression("happy"),
            _of_emotion("happy"),
        ),
        Attribute("surprise", "surprised", "calm", "log-odds", _of_expression("surprised")),
        Attribute("anger", "angry", "not angry", "log-odds", _of_expression("angry")),
        Attribute("yaw", "looks right", "looks left", "half face widths", _of_landmarks(yaw)),
        Attribute("pitch", "looks up", "looks down", "eye-mouth heights", _of_landmarks(pitch)),
        Attribute("mouth-open", "open", "closed", "mouth widths", _of_landmarks(mouth_open)),
        Attribute("eyes-open", "wide open", "narrow", "eye widths", _of_landmarks(eyes_open)),
        Attribute("face-width", "wide", "narrow", "face heights", _of_landmarks(face_width)),
        Attribute("brightness", "bright", "dark", "half the range", _of_pixels(brightness)),
        Attribute(
            "light-side", "from right", "from left", "half the range", _of_pixels(light_side)
        ),
        Attribute("warmth", "warm", "cold", "half the range", _of_pixels(warmth)),
    )
}
