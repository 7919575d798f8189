"""Pivotal tuning on a tiny generator."""

from dataclasses import replace

import pytest
import torch

from rounding import close
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.losses import LossWeights, PerceptualLoss
from sdic.methods.pti import PRESETS, PTI, PTISettings
from sdic.methods.storage import load_inversion, save_inversion
from tiny import tiny_generator, tiny_stylegan2

L2 = LossWeights(perceptual=0.0, identity=0.0)
QUICK = PTISettings(pivot_steps=8, tuning_steps=12, tuning_rate=3e-3, weights=L2)


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


@pytest.fixture(scope="module")
def image(generator):
    """An image that no single code reaches: a far one, another one in each row."""
    rows = generator.sample(generator.num_styles, seed=5)[None]
    return generator(generator.truncate(rows, 4.0), 256).clamp(-1, 1)


@pytest.fixture(scope="module")
def inversion(generator, image):
    return PTI(generator, QUICK).invert(image)


def test_tuning_beats_the_pivot(generator, image, inversion):
    pivot = generator(inversion.latents, 256)
    tuned = inversion.reconstruction
    assert (tuned - image).square().mean() < 0.5 * (pivot - image).square().mean()
    assert torch.equal(inversion.latents, inversion.base_latents)
    assert torch.equal(inversion.latents, inversion.latents[:, :1].expand(-1, 17, -1))


def test_the_generator_stays_as_it_is(generator, image):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    inversion = PTI(generator, QUICK).invert(image)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert not any(value.requires_grad for value in generator.parameters())
    names = dict(generator.named_parameters())
    assert 0 < len(inversion.weights) < len(names)
    for name, value in inversion.weights.items():
        assert value.shape == names[name].shape
        assert not name.startswith("mapping")


def test_progress_counts_both_stages(generator, image):
    calls = []
    PTI(generator, QUICK).invert(image, lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(i + 1, 20) for i in range(20)]
    assert calls[-1][2] < calls[0][2]


def test_same_seed_same_result(generator, image, inversion):
    again = PTI(generator, QUICK).invert(image)
    assert torch.equal(again.reconstruction, inversion.reconstruction)


def test_tuned_inversion_can_be_edited_and_stored(generator, inversion, tmp_path):
    method = PTI(generator, QUICK)
    save_inversion(inversion, tmp_path / "a.sdic.safetensors")
    loaded = load_inversion(tmp_path / "a.sdic.safetensors")
    close(method.synthesize(loaded, size=256), inversion.reconstruction)
    vector = torch.randn(512, generator=torch.Generator().manual_seed(2))
    edit = Edit.of(Direction("any", vector / vector.norm(), "mobile"), 3.0)
    edited = method.synthesize(loaded, edit, size=256)
    assert (edited - inversion.reconstruction).abs().mean() > 1e-4


def test_tunes_around_a_given_pivot(generator, image):
    pivot = generator.broadcast(generator.sample(1, seed=8))
    calls = []
    inversion = PTI(generator, QUICK).tune(pivot, image, lambda *call: calls.append(call[:2]))
    assert torch.equal(inversion.latents, pivot)
    assert calls == [(i + 1, 12) for i in range(12)]
    before = (generator(pivot, 256) - image).square().mean()
    assert (inversion.reconstruction - image).square().mean() < before


def test_locality_keeps_other_images(generator, image):
    pivot = generator.broadcast(generator.sample(1, seed=8))
    near = pivot + 0.1 * (generator.broadcast(generator.sample(1, seed=30)) - pivot)
    drifts = []
    for weight in (0.0, 10.0):
        settings = replace(QUICK, locality=weight, locality_distance=1.0)
        method = PTI(generator, settings)
        inversion = method.tune(pivot, image)
        moved = replace(inversion, latents=near, base_latents=near)
        drift = method.synthesize(moved, size=256) - generator(near, 256)
        drifts.append(drift.square().mean())
    assert drifts[1] < 0.8 * drifts[0]


def test_stops_at_the_perceptual_distance(generator, image):
    settings = replace(
        QUICK,
        pivot_steps=0,
        stop_perceptual=1e9,
        weights=LossWeights(perceptual=1.0, identity=0.0),
    )
    calls = []
    inversion = PTI(generator, settings, PerceptualLoss()).invert(
        image, lambda *call: calls.append(call)
    )
    assert calls == []
    assert inversion.weights == {}


def test_one_image_at_a_time(generator, image):
    method = PTI(generator, QUICK)
    with pytest.raises(InputError, match=r"2 images at once.*one by one"):
        method.invert(image.expand(2, -1, -1, -1))
    with pytest.raises(InputError, match="expected float images"):
        method.invert(image[..., :64])
    with pytest.raises(InputError, match=r"pivot of shape \[1, 512\]"):
        method.tune(torch.zeros(1, 512), image)


def test_noise_that_is_part_of_the_weights_cannot_be_searched(generator, image):
    with pytest.raises(InputError, match="set `noise` to False"):
        PTI(generator, replace(QUICK, noise=True)).invert(image)


def test_noise_is_searched_where_it_is_white():
    network = tiny_stylegan2(256, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = torch.zeros(1, 3, 256, 256)
    method = PTI(network, replace(QUICK, noise=True, pivot_steps=3, tuning_steps=3))
    inversion = method.invert(image)
    maps = {name: value for name, value in inversion.weights.items() if "noises" in name}
    # 8x8 to 256x256, two each; the 4x4 map is too small.
    assert len(maps) == 12
    for name, value in maps.items():
        assert value.mean().abs() < 1e-5
        assert value.square().mean().item() == pytest.approx(1, abs=1e-4)
        assert not torch.equal(value, before[name])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(method.synthesize(inversion, size=256), inversion.reconstruction)


def test_settings_are_checked():
    with pytest.raises(InputError, match="known are: w, w\\+"):
        PTISettings(pivot_space="f")
    with pytest.raises(InputError, match="negative"):
        PTISettings(tuning_steps=-1)
    assert PRESETS["pti-published"].pivot_steps == 450
