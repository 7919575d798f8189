"""What every method of the shelf keeps, whatever it is: a test for each promise of the contract."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from sdic import methods
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.methods import load_inversion, optimisation, pti, save_inversion

RANDOM = torch.Generator().manual_seed(7)
DIRECTION = Direction("any", torch.randn(512, generator=RANDOM), "mobile")
NOTHING, SOMETHING = Edit.of(DIRECTION, 0.0), Edit.of(DIRECTION, 0.3)


@pytest.fixture(scope="module")
def quick(trained):
    """The shelf of these tests, with methods that take few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdic.weights.load", lambda name: dict(trained[name]))
        patch.setattr("sdic.losses.perceptual.create", lambda *_: torch.nn.Identity())
        without = replace(optimisation.WEIGHTS, perceptual=0.0, identity=0.0)
        for name, preset in optimisation.PRESETS.items():
            few = replace(preset, latent_steps=2, feature_steps=2, weights=without)
            patch.setitem(optimisation.PRESETS, name, few)
        for name, preset in pti.PRESETS.items():
            few = replace(preset, pivot_steps=2, tuning_steps=2, weights=without)
            patch.setitem(pti.PRESETS, name, few)
        yield


@pytest.fixture(scope="module", params=methods.names())
def inverter(request, network, quick):
    return methods.create(request.param, network, backend="eager")


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def inversion(inverter, images):
    return inverter.invert(images)


def test_an_inversion_names_its_method_and_generator(inverter, inversion, network):
    assert inversion.method == inverter.name
    assert inversion.generator == network.identity
    assert inversion.latents.shape == inversion.base_latents.shape == (1, network.num_styles, 512)
    assert inversion.reconstruction.shape == (1, 3, 256, 256)


def test_strength_0_is_the_inversion_bit_for_bit(inverter, inversion):
    unedited = inverter.synthesize(inversion, size=256)
    assert torch.equal(unedited, inversion.reconstruction)
    for edit in (None, NOTHING, Edit(())):
        assert torch.equal(inverter.synthesize(inversion, edit, 256), unedited)


def test_an_edit_changes_the_image_and_not_the_inversion(inverter, inversion, monkeypatch):
    before = [value.clone() for value in (inversion.latents, inversion.base_latents)]
    monkeypatch.setattr(inverter, "_invert", None)  # an edit never inverts again
    once = inverter.synthesize(inversion, SOMETHING, 256)
    assert (once - inversion.reconstruction).abs().mean() > 1e-4
    assert torch.equal(inverter.synthesize(inversion, SOMETHING, 256), once)
    assert torch.equal(before[0], inversion.latents)
    assert torch.equal(before[1], inversion.base_latents)


def test_a_file_holds_all_that_edits_need(inverter, inversion, tmp_path):
    save_inversion(inversion, tmp_path / "a.sdic.safetensors")
    loaded = load_inversion(tmp_path / "a.sdic.safetensors")
    for edit in (None, SOMETHING):
        expected = inverter.synthesize(inversion, edit, 256)
        assert torch.equal(inverter.synthesize(loaded, edit, 256), expected)


def test_the_unedited_image_may_be_made_at_full_resolution_at_once(inverter, images):
    inversion = inverter.invert(images, size=None)
    assert inversion.render is not None
    assert torch.equal(inversion.render, inverter.synthesize(inversion))


def test_threads_do_not_meet(inverter, inversion):
    edits = [Edit.of(DIRECTION, 0.1 * k) for k in range(4)]
    expected = [inverter.synthesize(inversion, edit, 256) for edit in edits]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(inverter.synthesize, inversion, edits[k % 4], 256) for k in range(16)]
        for k, job in enumerate(jobs):
            assert torch.equal(job.result(), expected[k % 4])


def test_another_generator_is_refused(inverter, inversion):
    other = replace(inversion.generator, fingerprint="0123456789abcdef")
    with pytest.raises(InputError, match="load that generator, or invert the photo again"):
        inverter.synthesize(replace(inversion, generator=other))
    fewer = replace(inversion, latents=inversion.latents[:, 1:])
    with pytest.raises(InputError, match="rows of latents"):
        inverter.synthesize(fewer)


def test_other_images_are_refused(inverter):
    for images in (torch.zeros(1, 3, 128, 128), torch.full((1, 3, 256, 256), torch.nan)):
        with pytest.raises(InputError, match="expected float images"):
            inverter.invert(images)


def test_an_entry_says_what_it_is(inverter):
    method = methods.get(inverter.name)
    assert method.summary
    assert method.iterates == inverter.iterates
    assert method.edits(method)
