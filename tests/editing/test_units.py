"""Strengths given in years, degrees and shares of the useful range."""

import math

import pytest
import torch

from fakes import fake_editor, noise_photo
from sdic.cli.options import all_edits, parse_strengths
from sdic.editing.direction import Direction
from sdic.editing.library import save_directions
from sdic.editing.measurement import measure
from sdic.editing.preview import strip
from sdic.editing.units import to_strength
from sdic.errors import InputError
from sdic.images import Photo
from tiny import tiny_generator


def direction(name="age", strength_range=(-2.0, 3.0), **notes):
    return Direction(name, torch.ones(512), "mobile", strength_range=strength_range, notes=notes)


AGE = direction(unit="years", per_strength="5")
YAW = direction("yaw", unit="degrees", per_strength="-4")


@pytest.mark.parametrize(
    ("amount", "strength"),
    [
        (2, 2.0),
        ("-1.5", -1.5),
        ("+15y", 3.0),
        ("-2.5 y", -0.5),
        (".5e1y", 1.0),
        ("100%", 3.0),
        ("-50%", -1.0),
        ("0%", 0.0),
    ],
)
def test_amounts_of_age(amount, strength):
    assert to_strength(AGE, amount) == pytest.approx(strength)


def test_degrees_divide_by_the_calibration_and_its_sign():
    assert to_strength(YAW, "-20deg") == pytest.approx(5)


@pytest.mark.parametrize("amount", ["", "y", "15 years", "15d", "1,5y", "inf", "nan%", "15yy"])
def test_what_is_no_amount_is_told_with_the_forms(amount):
    with pytest.raises(InputError, match=r"is no amount of 'age'; expected .*80%.*15y.*20deg"):
        to_strength(AGE, amount)


@pytest.mark.parametrize(
    ("uncalibrated", "amount", "reason"),
    [
        (direction("smile"), "3y", "in years, since it was not calibrated"),
        (AGE, "3deg", "in degrees, since its unit is years"),
        (direction(unit="years", per_strength="0"), "3y", "cannot be given in years"),
        (direction(unit="years", per_strength="many"), "3y", "cannot be given in years"),
        (direction(unit="years"), "3y", "cannot be given in years"),
    ],
)
def test_units_need_a_calibration(uncalibrated, amount, reason):
    with pytest.raises(InputError, match=reason):
        to_strength(uncalibrated, amount)


def test_a_range_on_one_side_of_zero_has_no_share_on_the_other():
    upwards = direction(strength_range=(0.0, 1.0))
    assert to_strength(upwards, "50%") == 0.5
    with pytest.raises(InputError, match="nothing below 0"):
        to_strength(upwards, "-50%")


@pytest.mark.parametrize("amount", ["1e999", "1e999%", 10**400, math.nan, -math.inf])
def test_amounts_that_are_not_finite_are_no_number(amount):
    with pytest.raises(InputError, match=r"strength of 'age' is (nan|-?inf); give a number"):
        to_strength(AGE, amount)


def test_ten_times_the_range_is_the_limit_on_both_sides():
    assert to_strength(AGE, 30) == 30
    assert to_strength(AGE, -30) == -30
    assert to_strength(direction(strength_range=(-0.2, 0.0)), 2) == 2


def test_strips_and_measurements_have_the_same_limit():
    latents = torch.zeros(1, 23, 512)
    with pytest.raises(InputError, match="far outside its useful range"):
        strip(lambda edit: torch.zeros(1, 3, 8, 8), AGE, [0.0, 1e30])
    with pytest.raises(InputError, match="far outside its useful range"):
        measure(tiny_generator(), AGE, latents, [1e30], {"any": lambda images: images[:, 0, 0, 0]})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("directions") / "d.safetensors"
    save_directions([AGE, YAW], path)
    return path


@pytest.mark.parametrize(
    "amount",
    [1e30, -1e30, 30.5, -31, "30.5", "1e308%", "160y", 1e308],
)
def test_amounts_far_outside_the_range_are_refused_with_it(file, amount):
    with pytest.raises(InputError, match=r"'age' is far outside its useful range, -2 to 3; at mo"):
        to_strength(AGE, amount)
    with pytest.raises(InputError, match="far outside its useful range"):
        fake_editor().make_edit({f"{file}:age": amount})


def test_command_line_turns_units_into_strengths(file):
    texts = [f"{file}:age=+15y", f"{file}:yaw=-100%"]
    assert parse_strengths(texts) == {f"{file}:age": 3.0, f"{file}:yaw": -2.0}
    assert parse_strengths(["anything=-2e-1"]) == {"anything": -0.2}


@pytest.mark.parametrize("text", ["age", "=2", "age=", "age=much"])
def test_command_line_tells_the_form(text):
    with pytest.raises(InputError, match="NAME=STRENGTH"):
        parse_strengths([text])


def test_editor_takes_units(file):
    editor = fake_editor()
    edit = editor.make_edit({f"{file}:age": "+15y", f"{file}:yaw": 1.0})
    assert [strength for _, strength in edit.steps] == [3.0, 1.0]
    photo = Photo(noise_photo())
    by_unit = editor.edit(photo, {f"{file}:age": "+15y"})
    assert (by_unit.rgb == editor.edit(photo, {f"{file}:age": 3.0}).rgb).all()


def test_age_smile_and_yaw_have_options_of_their_own():
    texts = all_edits(["anger=1"], 15, 0.8, -20)
    assert texts == ["anger=1", "age=+15y", "smile=+80%", "yaw=-20deg"]
    assert all_edits(None, None, -0.5, None) == ["smile=-50%"]
    assert parse_strengths(all_edits(None, 0, None, 0)) == {"age": 0.0, "yaw": 0.0}
    with pytest.raises(InputError, match=r"nothing to edit; .* --text, --age, --smile or --yaw"):
        all_edits(None, None, None, None)
