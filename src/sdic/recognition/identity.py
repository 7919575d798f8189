"""The registry of identity recognisers."""

from __future__ import annotations

from sdic.errors import InputError
from sdic.recognition.base import Recogniser
from sdic.recognition.dlib_resnet import DlibResNet
from sdic.recognition.faceres import FaceRes
from sdic.recognition.mobilefacenet import MobileFaceNet

_RECOGNISERS: dict[str, type[Recogniser]] = {
    kind.name: kind for kind in (MobileFaceNet, DlibResNet, FaceRes)
}


def list_recognisers() -> list[str]:
    """Names that `create` knows."""
    return sorted(_RECOGNISERS)


def create(name: str) -> Recogniser:
    """A pretrained identity recogniser: aligned images [N,3,256,256] to unit embeddings [N,D].

    It is frozen and on the CPU; gradients flow to the images.

    Args:
        name: "fr-feature" (512, for training losses), "dlib" (128, for judging) or "faceres"
            (1024, a third opinion).

    Raises:
        InputError: no recogniser has this name.
        WeightsError: its weights cannot be fetched.
    """
    if name not in _RECOGNISERS:
        raise InputError(
            f"There is no recogniser '{name}': choose one of {', '.join(list_recognisers())}."
        )
    return _RECOGNISERS[name].pretrained()
