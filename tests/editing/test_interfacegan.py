import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from sdic.editing import library, scorers
from sdic.editing.direction import Direction
from sdic.editing.interfacegan import condition, fit_direction
from sdic.editing.samples import Condition, SampleSet
from sdic.errors import InputError
from sdic.runtime.delegating import CompiledGenerator
from tiny import tiny_generator

NUMBER = torch.ones(1)


def unit(seed):
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(512, generator=random), dim=0)


def direction(name, vector):
    return Direction(name, vector, "mobile")


@pytest.fixture(scope="module")
def planted():
    """Latents whose score grows along a known direction, with a little noise."""
    random = torch.Generator().manual_seed(0)
    latents = 0.4 * torch.randn(2000, 512, generator=random)
    latents[:, 64:] *= 0.1  # as in W, most of the variance lies in some of the dimensions
    along = torch.nn.functional.pad(unit(1)[:64], (0, 448))
    scores = latents @ along + 0.02 * torch.randn(2000, generator=random)
    return latents, scores


def test_planted_direction_is_found(planted):
    fit = fit_direction("smile", *planted, generator="mobile", fraction=0.2)
    along = torch.nn.functional.normalize(unit(1)[:64], dim=0)
    assert float(fit.direction.vector[:64] @ along) > 0.85
    assert fit.direction.vector.norm() == pytest.approx(1, abs=1e-5)
    assert fit.accuracy > 0.95
    assert fit.correlation > 0.8
    assert (fit.trained_on, fit.held_out) == (2 * 280, 2 * 120)
    again = fit_direction("smile", *planted, generator="mobile", fraction=0.2)
    assert torch.equal(fit.direction.vector, again.direction.vector)


def test_direction_does_not_depend_on_the_scale_of_scores(planted):
    latents, scores = planted
    fit = fit_direction("a", latents, scores, generator="mobile", fraction=0.05)
    other = fit_direction("a", latents, scores.exp() * 7, generator="mobile", fraction=0.05)
    assert torch.equal(fit.direction.vector, other.direction.vector)


def test_held_out_accuracy_of_chance_is_chance(planted):
    latents, _ = planted
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(5))
    fit = fit_direction("noise", latents, noise, generator="mobile", fraction=0.2)
    assert 0.4 < fit.accuracy < 0.6
    assert abs(fit.correlation) < 0.1


def test_what_cannot_be_fitted_is_told(planted):
    latents, scores = planted
    with pytest.raises(InputError, match="do not differ"):
        fit_direction("a", latents, torch.zeros(2000), generator="mobile")
    with pytest.raises(InputError, match="take more samples"):
        fit_direction("a", latents[:50], scores[:50], generator="mobile")
    with pytest.raises(InputError, match="one score for each"):
        fit_direction("a", latents, scores[:-1], generator="mobile")
    with pytest.raises(InputError, match="not finite"):
        fit_direction("a", latents, scores / 0, generator="mobile")
    with pytest.raises(InputError, match="a fraction above 0"):
        fit_direction("a", latents, scores, generator="mobile", fraction=0.6)


def test_conditioned_direction_is_orthogonal_to_all_others():
    others = [direction("glasses", unit(2)), direction("gender", unit(3) + 0.5 * unit(2))]
    mixed = direction("age", unit(1) + 0.7 * unit(2) - 0.4 * unit(3))
    left = condition(mixed, others)
    for other in others:
        assert float(left.vector @ other.vector) == pytest.approx(0, abs=1e-5)
    assert left.vector.norm() == pytest.approx(1, abs=1e-5)
    assert float(left.vector @ mixed.vector) > 0
    assert left.notes["conditioned on"] == "glasses, gender"
    assert condition(mixed, []) is mixed
    with pytest.raises(InputError, match="Nothing is left"):
        condition(direction("a", unit(2)), others)
    with pytest.raises(InputError, match="differs between rows"):
        condition(direction("a", torch.randn(18, 512)), others)


# The samples


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


def test_samples_and_scores_are_made_once(generator, tmp_path, monkeypatch):
    made = SampleSet(generator, tmp_path, seed=3)
    calls = []

    def red(images):
        calls.append(len(images))
        return images[:, 0].mean((1, 2))

    first = made.scores("red", red, 5)
    direct = generator(generator.broadcast(made.latents(5)), size=256).clamp(-1, 1)
    assert torch.allclose(first, direct[:, 0].mean((1, 2)), atol=0.02)
    assert (made.images(0, 5) - direct).abs().mean() < 0.05

    monkeypatch.setattr(generator, "to_features", None)  # nothing can be rendered from here on
    again = SampleSet(generator, tmp_path, seed=3)
    assert torch.equal(again.scores("red", red, 4), first[:4])
    assert sum(calls) == 5
    again.scores("green", lambda images: images[:, 1].mean((1, 2)), 5)


def test_more_samples_cost_only_the_new_ones(generator, tmp_path):
    made = SampleSet(generator, tmp_path)
    calls = []

    def blue(images):
        calls.append(len(images))
        return images[:, 2].mean((1, 2))

    few, more = made.scores("blue", blue, 2), made.scores("blue", blue, 3)
    assert calls == [2, 1]
    assert torch.equal(more[:2], few)


def test_a_scorer_that_was_trained_anew_scores_anew(generator, tmp_path):
    class Shade(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(weight))

        def forward(self, images):
            return self.weight.detach() * images.mean((1, 2, 3))

        margin = forward

    class Tint(Shade):
        def forward(self, images):
            return 5 * super().forward(images)

    def score(scorer):
        return SampleSet(generator, tmp_path).scores("shade", scorer, 2)

    once = score(Shade(1.0))
    assert torch.allclose(score(Shade(2.0)), 2 * once)
    assert torch.allclose(score(Shade(3.0).margin), 3 * once)
    assert torch.allclose(score(Tint(1.0)), 5 * once)
    assert score(lambda images: images[:, 0, 0, 0] * 0).tolist() == [0, 0]
    assert torch.equal(score(Shade(1.0)), once)
    assert len(list(tmp_path.glob("*/scores-shade-*"))) == 5


def test_sets_of_other_seeds_and_weights_lie_apart(generator, tmp_path):
    folder = SampleSet(generator, tmp_path).folder
    assert SampleSet(generator, tmp_path, seed=1).folder != folder
    assert SampleSet(generator, tmp_path, truncation=0.7).folder != folder
    assert SampleSet(tiny_generator(seed=1), tmp_path).folder != folder
    assert SampleSet(generator, tmp_path).folder == folder


def test_sets_do_not_depend_on_what_renders_but_on_its_precision(generator, tmp_path):
    accelerated = CompiledGenerator(generator)
    assert SampleSet(accelerated, tmp_path).folder == SampleSet(generator, tmp_path).folder
    accelerated.precision = "bf16"
    assert SampleSet(accelerated, tmp_path).folder.name.endswith("-bf16")


def test_foreign_scores_are_told(generator, tmp_path):
    made = SampleSet(generator, tmp_path)
    with pytest.raises(InputError, match="one number for each"):
        made.scores("pairs", lambda images: images.mean((2, 3)), 2)


@pytest.mark.parametrize("kept", [b"x", save({"scores": torch.ones(2, 2)}), save({"a": NUMBER})])
def test_kept_scores_and_images_that_are_damaged_are_told(generator, tmp_path, kept):
    made = SampleSet(generator, tmp_path)
    made.scores("warmth", scorers.warmth, 1)
    (path,) = made.folder.glob("scores-warmth-*.safetensors")
    path.write_bytes(kept)
    with pytest.raises(InputError, match=r"scores-warmth-.* cannot be read; delete the file"):
        made.scores("warmth", scorers.warmth, 2)
    path.unlink()
    (made.folder / "0000000.jpg").write_bytes(kept)
    with pytest.raises(InputError, match=r"0000000\.jpg cannot be read; delete the file"):
        made.scores("warmth", scorers.warmth, 2)


def test_command_fits_and_conditions(generator, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from sdic.cli import directions as cli

    monkeypatch.setattr(cli.options, "make_generator", lambda *_: generator)
    out = tmp_path / "fitted.safetensors"
    common = ["--out", out, "--samples", 20, "--fraction", 0.4, "--cache", tmp_path / "cache"]
    some = tmp_path / "some.safetensors"
    warmth = SampleSet(generator, tmp_path / "cache").scores("warmth", scorers.warmth, 20)
    warm = round(float(warmth.sort().values[9:11].mean()), 4)  # between the tenth and the next
    for arguments in (
        ["fit", "brightness", *common],
        ["fit", "warmth", *common, "--without", f"{out}:brightness"],
        [
            "fit",
            "brightness",
            *common,
            "--where",
            f"warmth>{warm}",
            "--where",
            "brightness<2",
            "--out",
            some,
        ],
    ):
        result = CliRunner().invoke(cli.directions_app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
    fitted = library.load_directions(out)
    assert list(fitted) == ["brightness", "warmth"]
    of_some = library.load_directions(some)["brightness"]
    assert f"the 10 of them where warmth>{warm} and brightness<2" in of_some.source
    assert "held-out" in fitted["warmth"].notes["accuracy"]
    cosine = fitted["warmth"].vector @ fitted["brightness"].vector
    assert float(cosine) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a>1", [False, False, True]), ("a<1", [True, False, False]), ("b-c > -.5", [True] * 3)],
)
def test_conditions_bound_scores(text, expected):
    assert Condition.parse(text).holds(torch.tensor([0.0, 1.0, 2.0])).tolist() == expected


@pytest.mark.parametrize("text", ["", "a", "a=1", "a>x", "a>1.2.3", ">1"])
def test_conditions_of_another_form_are_told(text):
    with pytest.raises(InputError, match="expected NAME>NUMBER"):
        Condition.parse(text)


# The scorers


def test_measures_of_pixels_have_their_closed_forms():
    images = torch.zeros(2, 3, 256, 256)
    images[1, :, :, 128:] = 0.5
    assert scorers.light_side(images).tolist() == pytest.approx([0, 0.5], abs=1e-3)
    assert scorers.brightness(images)[1] == pytest.approx(0.25, abs=1e-3)
    images[0, 0] = 0.3
    assert scorers.warmth(images).tolist() == pytest.approx([0.3, 0])
    gray = np.full((1, 3, 8, 8), 0.4, dtype=np.float32)
    assert scorers.luminance(torch.from_numpy(gray)).mean() == pytest.approx(0.4, abs=1e-3)


def test_scorers_are_the_attributes_and_the_measures_of_pixels():
    assert set(scorers.names()) >= {"age", "beard", "gender", "glasses", "smile", "yaw", "warmth"}
    assert scorers.meaning("smile") == "happy (log-odds)"
    assert scorers.meaning("glasses") == "glasses (log-odds)"
    assert scorers.create("warmth") is scorers.create("warmth", "judging") is scorers.warmth
    for call in (scorers.create, scorers.meaning):
        with pytest.raises(InputError, match="known are: age"):
            call("charm")


@pytest.mark.network
def test_both_readings_of_a_smile_rank_a_smile_first():
    skimage = pytest.importorskip("skimage.data")
    picture = torch.from_numpy(skimage.astronaut()[:256, 96:352].copy()).permute(2, 0, 1)[None]
    smiling = picture / 127.5 - 1
    with torch.no_grad():
        for role in ("labelling", "judging"):
            scorer = scorers.create("smile", role)
            assert float(scorer(smiling)) > float(scorer(torch.zeros_like(smiling)))
