"""Inversion by gradient descent, on a tiny generator whose images can be reached."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from rounding import close
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.losses import LossWeights
from sdic.methods.base import Inversion
from sdic.methods.descent import Group, descend, schedule
from sdic.methods.optimisation import (
    PRESETS,
    Optimisation,
    OptimisationSettings,
    latent_spread,
    project,
)
from tiny import tiny_generator

L2 = LossWeights(perceptual=0.0, identity=0.0, edit_latents=0.0, edit_features=0.0)
QUICK = OptimisationSettings(latent_steps=12, feature_steps=12, weights=L2)


@pytest.fixture(scope="module")
def generator():
    return tiny_generator(seed=3)


@pytest.fixture(scope="module")
def images(generator):
    """Two images that w+ and F can reach and w cannot: far codes, another one in each row."""
    rows = generator.sample(2 * generator.num_styles, seed=5).reshape(2, -1, 512)
    return generator(generator.truncate(rows, 4.0), 256).clamp(-1, 1)


def error(inversion, images):
    return (inversion.reconstruction - images).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_obey_the_contract(generator, images, name):
    settings = replace(PRESETS[name], latent_steps=6, feature_steps=6, weights=L2)
    method = Optimisation(generator, settings)
    calls = []
    inversion = method.invert(images, lambda *call: calls.append(call))
    total = 12 if settings.space == "f" else 6
    assert [call[:2] for call in calls] == [(i + 1, total) for i in range(total)]
    assert calls[-1][2] < calls[0][2]
    assert (inversion.method, inversion.generator) == (name, generator.identity)
    assert inversion.latents.shape == inversion.base_latents.shape == (2, 17, 512)
    one_code = torch.equal(inversion.base_latents, inversion.base_latents[:, :1].expand(-1, 17, -1))
    assert one_code == (settings.space != "w+")
    assert (inversion.features is None) == (settings.space != "f")
    assert inversion.reconstruction.shape == (2, 3, 256, 256)
    assert torch.equal(inversion.reconstruction, method.synthesize(inversion, size=256))
    assert not any(value.requires_grad for value in generator.parameters())
    assert not inversion.latents.requires_grad


def test_each_space_comes_closer_than_the_one_before(generator, images):
    start = generator(generator.broadcast(generator.mean_latent[None]), 256)
    errors = [(start - images).square().mean()]
    for space in ("w", "w+", "f"):
        settings = replace(QUICK, space=space, latent_steps=40, feature_steps=20)
        errors.append(error(Optimisation(generator, settings).invert(images), images).mean())
    for before, after in pairwise(errors):
        assert after < 0.95 * before


def test_a_guide_in_bf16_leads_to_the_same_place(generator, images):
    settings = replace(QUICK, latent_steps=30, feature_steps=20)
    errors = []
    for guide in (generator, to_bfloat16(fuse(copy.deepcopy(generator)))):
        method = Optimisation(generator, settings)
        method.guide = guide
        inversion = method.invert(images)
        assert inversion.features.dtype == inversion.latents.dtype == torch.float32
        errors.append(error(inversion, images).mean().item())
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_same_seed_same_result(generator, images):
    settings = replace(QUICK, space="w", exploration=0.05)
    one, two = (Optimisation(generator, settings).invert(images) for _ in range(2))
    assert torch.equal(one.latents, two.latents)
    other = Optimisation(generator, replace(settings, seed=1)).invert(images)
    assert not torch.equal(one.latents, other.latents)


def test_images_of_a_batch_do_not_influence_each_other(generator, images):
    method = Optimisation(generator, replace(QUICK, exploration=0.05, stop_psnr=30.0))
    both = method.invert(images)
    for i in range(2):
        alone = method.invert(images[i : i + 1])
        close(both.latents[i], alone.latents[0], 1e-3)
        close(both.reconstruction[i], alone.reconstruction[0], 1e-3)


def test_stops_at_the_psnr_asked_for(generator, images):
    calls = []
    method = Optimisation(generator, replace(QUICK, feature_steps=200, stop_psnr=30.0))
    inversion = method.invert(images, lambda *call: calls.append(call))
    assert (error(inversion, images) < 4 * 10**-3.0).all()
    assert calls[-1][0] < 150


def test_editing_penalty_keeps_features_close(generator, images):
    distances = []
    for weight in (0.0, 1.0):
        weights = replace(L2, edit_features=weight, edit_latents=weight)
        method = Optimisation(generator, replace(QUICK, weights=weights))
        inversion = method.invert(images)
        own = generator.to_features(inversion.base_latents)
        distances.append((inversion.features - own).abs().mean())
    assert distances[1] < 0.5 * distances[0]


def encoded(generator, features=None):
    """An inversion as an encoder gives it, and what it shows."""
    latents = generator.broadcast(generator.sample(2, seed=9)).clone()
    reconstruction = generator(latents, 256)
    return Inversion(
        "e4e",
        generator.identity,
        latents,
        latents,
        features,
        reconstruction,
        metadata={"photo": "a.jpg"},
    )


def test_refine_continues_from_any_inversion(generator, images):
    start = encoded(generator)
    method = Optimisation(generator, QUICK)
    once = method.refine(start, images, 8)
    assert (error(once, images) < error(start, images)).all()
    twice = method.refine(once, images, 8)
    assert (error(twice, images) < error(once, images)).all()
    assert twice.method == "e4e"
    assert twice.metadata == {"photo": "a.jpg", "refined_steps": "16"}
    assert start.metadata == {"photo": "a.jpg"}
    assert start.features is None
    assert torch.equal(twice.base_latents, start.base_latents)
    assert not torch.equal(twice.latents, start.latents)
    nothing = method.refine(once, images, 0)
    assert torch.equal(nothing.reconstruction, once.reconstruction)


@pytest.mark.parametrize("text", ["x", "-5", "1e9", "9" * 6000])
def test_a_count_of_steps_that_a_file_made_up_is_none(generator, images, text):
    start = replace(encoded(generator), metadata={"refined_steps": text})
    refined = Optimisation(generator, QUICK).refine(start, images, 0)
    assert refined.metadata["refined_steps"] == "0"


def test_refine_keeps_changed_weights(generator, images):
    start = encoded(generator)
    name = "blocks.4.conv2.bias"
    start.weights = {name: generator.get_parameter(name) + 0.5}
    method = Optimisation(generator, QUICK)
    start.reconstruction = method.synthesize(start, size=256)
    refined = method.refine(start, images, 8)
    assert list(refined.weights) == [name]
    assert (error(refined, images) < error(start, images)).all()


def test_refined_inversion_can_be_edited(generator, images):
    method = Optimisation(generator, QUICK)
    refined = method.refine(encoded(generator), images, 4)
    vector = torch.randn(512, generator=torch.Generator().manual_seed(2))
    direction = Direction("any", vector / vector.norm(), "mobile")
    none = method.synthesize(refined, Edit.of(direction, 0.0), size=256)
    assert torch.equal(none, refined.reconstruction)
    edited = method.synthesize(refined, Edit.of(direction, 3.0), size=256)
    assert (edited - none).abs().mean() > 1e-4


def test_refuses_what_does_not_belong_together(generator, images):
    method = Optimisation(generator, QUICK)
    start = encoded(generator)
    with pytest.raises(InputError, match="1 images to refine an inversion of 2"):
        method.refine(start, images[:1], 1)
    other = replace(generator.identity, fingerprint="0123")
    with pytest.raises(InputError, match=r"made with the generator 'mobile' \(0123\), not with"):
        method.refine(replace(start, generator=other), images, 1)
    with pytest.raises(InputError, match="-1 steps"):
        method.refine(start, images, -1)
    with pytest.raises(InputError, match="expected float images"):
        method.invert(images[:, :, :128])
    with pytest.raises(InputError, match="known are: w, w\\+, f"):
        OptimisationSettings(space="z")
    with pytest.raises(InputError, match="negative"):
        OptimisationSettings(latent_steps=-1)


def test_project_returns_one_code_for_all_rows(generator, images):
    method = Optimisation(generator, QUICK)
    latents = project(generator, method.loss, method.loss.target(images), QUICK)
    assert latents.shape == (2, 17, 512)
    assert torch.equal(latents, latents[:, :1].expand(-1, 17, -1))


def test_latent_spread(generator):
    w = generator.sample(600, seed=3)
    expected = (w - generator.mean_latent).square().sum(dim=1).mean().sqrt()
    assert latent_spread(generator, 3) == pytest.approx(expected.item(), rel=1e-5)


def test_schedule():
    assert [schedule(t) for t in (0.0, 0.025, 0.05, 0.5, 0.75)] == [0, 0.5, 1, 1, 1]
    assert schedule(0.875) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0)


def test_descent_finds_the_minimum_of_each_image():
    wanted = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    x = torch.zeros(2, 2, requires_grad=True)

    def evaluate(t):
        losses = (x - wanted).square().sum(dim=1)
        return losses, torch.zeros(2, dtype=torch.bool)

    descend([Group([x], 0.1)], evaluate, 300)
    torch.testing.assert_close(x.detach(), wanted, atol=1e-2, rtol=0)


def test_descent_keeps_the_best_values_and_stops_on_a_plateau():
    x = torch.zeros(1, requires_grad=True)
    seen = []

    def evaluate(t):
        # Falls to 0 at x = 1, then rises steeply: large steps overshoot.
        seen.append((x - 1).abs().item())
        return (x - 1).abs() * 1.0, torch.zeros(1, dtype=torch.bool)

    descend([Group([x], 0.3)], evaluate, 200, plateau=5, factor=lambda t: 1.0)
    assert len(seen) < 100
    assert (x - 1).abs().item() == min(seen)
