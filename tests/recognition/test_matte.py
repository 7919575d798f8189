"""The matting network: against its own runtime, and what holds without weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recognition_images import DATA, generated_faces
from sdic import weights
from sdic.errors import InputError, WeightsError
from sdic.recognition.matte import Matte, RobustVideoMatting, guided_filter


@pytest.fixture(scope="module")
def references() -> dict[str, Tensor]:
    """What the graph gave in TensorFlow.js, every fourth pixel of alpha, sixteenth of others."""
    with np.load(DATA / "matte_mesh.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture(scope="module")
def network() -> RobustVideoMatting:
    torch.manual_seed(0)
    return RobustVideoMatting().freeze()


def image(height: int = 64, width: int = 48) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=random) * 2 - 1


@pytest.mark.parametrize(("height", "width"), [(64, 48), (75, 61)])
def test_shapes_and_ranges(network: RobustVideoMatting, height: int, width: int) -> None:
    matte = network(image(height, width))
    assert matte.alpha.shape == (2, 1, height, width)
    assert matte.foreground.shape == (2, 3, height, width)
    assert 0 <= matte.alpha.min() <= matte.alpha.max() <= 1
    assert -1 <= matte.foreground.min() <= matte.foreground.max() <= 1
    half = -(-height // 2), -(-width // 2)
    assert matte.states[0].shape == (2, 16, *half)


def test_states_begin_at_zero_and_count(network: RobustVideoMatting) -> None:
    first = network(image())
    zeros = tuple(torch.zeros_like(state) for state in first.states)
    assert torch.allclose(network(image(), zeros).alpha, first.alpha, atol=1e-6)
    second = network(image(), first.states)
    for state, before in zip(second.states, first.states, strict=True):
        assert (state - before).abs().max() > 1e-3


def test_the_network_works_on_256_pixels_unless_told_otherwise(network: RobustVideoMatting) -> None:
    large = image(288, 320)[:1]
    with torch.no_grad():
        matte, explicit = network(large), network(large, ratio=256 / 288)
    assert matte.alpha.shape[2:] == (288, 320)
    assert matte.states[0].shape[2:] == (128, 142)
    assert torch.allclose(matte.alpha, explicit.alpha, atol=1e-5)


def test_gradients_reach_the_image(network: RobustVideoMatting) -> None:
    x = image().requires_grad_()
    network(x).foreground.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_guided_filter_keeps_what_is_linear_in_its_guide() -> None:
    guide = image(20, 24)
    full = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    slope, offset = torch.tensor([2.0, -0.5, 0.0])[:, None, None], 0.25
    filtered = guided_filter(guide, slope * guide + offset, full)
    assert torch.allclose(filtered, slope * full + offset, atol=2e-3)


def test_what_cannot_be_matted_is_refused(network: RobustVideoMatting) -> None:
    with pytest.raises(InputError, match="ratio"):
        network(image(), ratio=1.5)
    with pytest.raises(InputError, match="at least 32 pixels"):
        network(image(), ratio=0.4)
    with pytest.raises(InputError, match="Nx3xHxW"):
        network(image()[:, :1])
    with pytest.raises(InputError, match="floating point"):
        network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(InputError, match="4 that the frame before"):
        network(image(), (torch.zeros(1),))


def test_missing_tensors_are_named() -> None:
    with pytest.raises(WeightsError, match="rvm"):
        RobustVideoMatting().load_tensors({})
    assert RobustVideoMatting.weights in weights.names()


@pytest.mark.network
def test_against_tensorflow_js(references: dict[str, Tensor]) -> None:
    network = RobustVideoMatting.pretrained()
    faces = generated_faces()

    def close(matte: Matte, prefix: str, atol: float) -> None:
        assert torch.allclose(matte.alpha[..., ::4, ::4], references[f"{prefix}_alpha"], atol=atol)
        if f"{prefix}_foreground" in references:
            part = matte.foreground[..., ::16, ::16]
            assert torch.allclose(part, references[f"{prefix}_foreground"], atol=4 * atol)

    with torch.no_grad():
        close(network(faces[:1]), "matte", 1e-4)
        # In steps of 16 the sides, 175 and 157, are odd each time.
        first = network(faces[1:, :, 30:205, 20:177])
        second = network(faces[1:, :, 33:208, 24:181], first.states)
        close(second, "second", 1e-4)
        state = second.states[0][..., ::16, ::16]
        assert torch.allclose(state, references["second_state"], atol=1e-4)
        # The guided filter divides differences of squares.
        close(network(faces[:1], ratio=0.6), "half", 5e-4)


@pytest.mark.network
def test_a_face_is_person_and_corners_are_not() -> None:
    alpha = RobustVideoMatting.pretrained()(generated_faces()[:1]).alpha[0, 0]
    assert alpha[60:230, 70:180].min() > 0.98
    assert alpha[:40, :20].max() < 0.05
    assert alpha[:100, 220:].max() < 0.05
