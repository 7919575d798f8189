"""What the benchmark's page draws and its tables say: error maps, plots, planted numbers."""

import re

import numpy as np
import pytest
import torch

from sdic.editing.direction import Direction
from sdic.evaluation import MeasuredEdit, page, tables
from sdic.evaluation.gallery import error_map
from sdic.evaluation.plots import Axis, Point, label_places, plot, round_factors, ticks
from sdic.evaluation.report import MethodOutcome, assemble
from sdic.evaluation.store import EditResult, ImageResult


def test_error_map_goes_from_black_to_white():
    photo = np.zeros((1, 4, 3), np.uint8)
    made = photo + np.array([0, 16, 32, 64], np.uint8)[None, :, None]
    heat = error_map(made, photo)[0]
    assert heat[0].tolist() == [0, 0, 0]
    assert heat[1].tolist() == [191, 0, 0]
    assert heat[2].tolist() == [255, 128, 0]
    assert heat[3].tolist() == [255, 255, 255]


def test_plots_place_points_and_leave_out_what_cannot_be_placed():
    points = [Point(0.1, 1, "a<b", 0), Point(10, 3, "c", 1), Point(-1, 2, "no", 2)]
    drawn = plot("T", Axis("s", logarithmic=True), Axis("q"), points)
    places = [tuple(map(float, p)) for p in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert len(places) == 2
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]  # y grows downwards in SVG
    assert "a&lt;b" in drawn
    assert plot("T", Axis("s", logarithmic=True), Axis("q"), points[2:]) == ""
    assert ticks(0.07, 1.0) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert round_factors(0.07, 1.2) == pytest.approx([0.1, 0.2, 0.5, 1.0])
    assert round_factors(0.07, 1200) == pytest.approx([0.1, 1, 10, 100, 1000])
    assert round_factors(0.36, 0.83) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])


def test_labels_of_neighbours_do_not_cover_each_other():
    points = [(200.0, 100.0), (201.0, 100.0), (202.0, 103.0), (203.0, 100.0), (330.0, 100.0)]
    places = label_places(points, ["sdic-release"] * 5)
    assert places[0][1] == pytest.approx(104, abs=1)  # beside its own point
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[:i]:
            assert abs(x - other_x) >= 60 or abs(y - other_y) >= 12


# What an edit costs: the distance begins at that of the reconstruction and grows by a slope.
PLANTED = {"sdic": (0.20, 0.02, 1.0), "e4e": (0.50, 0.01, 1.3), "photo": (0.05, 0.015, 0.6)}
STRENGTHS = (-3, -2, -1, 1, 2, 3)
YEARS = 8  # of change for a strength of 1 and a method of gain 1


def planted_report(strengths=STRENGTHS):
    """A report of two images; `photo` reaches 13 years only at the largest strengths."""
    edits = [
        MeasuredEdit.of(Direction("age", torch.eye(512)[0], "mobile"), strength)
        for strength in strengths
    ]
    outcomes = {}
    for method, (start, slope, gain) in PLANTED.items():
        images = []
        for shift in (-0.01, 0.01):
            done = {}
            for edit in edits:
                change = gain * YEARS * edit.strength + 100 * shift
                distance = start + slope * abs(gain * YEARS * edit.strength) + shift
                metrics = {"id_dlib": distance, "id_fr": 1 - distance}
                done[edit.label] = EditResult(metrics, {"age": change})
            made = {"psnr": 20.0, "id_dlib": start + shift, "id_fr": 1 - start - shift}
            images.append(ImageResult(made | {"seconds": 1.0, "peak_memory_mb": None}, done))
        outcomes[method] = MethodOutcome("digest", images)
    better = {"psnr": "higher", "id_dlib": "lower", "id_fr": "higher"}
    protocol = {
        "metrics": {
            name: {"better": word, "unit": "", "network": None, "note": ""}
            for name, word in better.items()
        },
        "attributes": {"age": {"unit": "years", "network": "planted"}},
        "edits": {edit.label: edit.describe() for edit in edits},
    }
    frechet = dict.fromkeys(PLANTED)
    return assemble(protocol, ["a", "b"], outcomes, edits, list(better), ["age"], frechet)


def test_identity_at_equal_change_from_planted_numbers():
    report = planted_report()
    for method in ("sdic", "e4e"):
        start, slope, _ = PLANTED[method]
        assert [row["change"] for row in report["equal_change"][method]] == [13, -13]
        for row in report["equal_change"][method]:
            assert row["id_dlib"] == pytest.approx(start + 13 * slope)
            assert row["id_fr"] == pytest.approx(1 - start - 13 * slope)
            assert row["reason"] == ""
    forward, backward = report["equal_change"]["photo"]
    assert forward["id_dlib"] == pytest.approx(0.05 + 13 * 0.015)
    fewer = planted_report((-3, 1, 2))
    [only] = fewer["equal_change"]["photo"]
    assert (only["id_dlib"], only["reason"]) == (None, "changes of 0 to 9.6 were measured")
    assert not any(planted_report((-1, 1))["equal_change"].values())
    assert "| sdic | age | +13 years | 0.46 | 0.54 |  |" in tables.markdown(report)
    assert "changes of 0 to 9.6 were measured" in tables.markdown(fewer)
    assert "equal change,e4e,age by -13 years,,id_dlib,0.63,\n" in tables.csv_text(report)
    assert "equal change,photo,age by +13 years,,id_dlib,,changes of" in tables.csv_text(fewer)
    for told in (report, fewer):
        assert tables.EQUAL_TITLE in page.page(told, [])
    assert backward["change"] == -13


def test_fidelity_against_change_is_one_curve_a_method():
    text = page.page(planted_report(), [])
    [drawing] = re.findall(r"<svg(?:(?!</svg>).)*Fidelity against change: age.*?</svg>", text)
    curves = re.findall(r'class="curve" stroke="(#\w+)" d="M([^"]*)"', drawing)
    assert len({colour for colour, _ in curves}) == len(curves) == len(PLANTED)
    for _, path in curves:
        x, y = np.array([point.split() for point in path.split("L")], float).T
        assert len(x) == len(STRENGTHS) + 1
        assert (np.diff(x) > 0).all()
        assert y.argmax() == 3  # the reconstruction is the nearest to the photo; y points down
        assert (np.diff(y[:4]) > 0).all()
        assert (np.diff(y[3:]) < 0).all()
    assert len(re.findall('class="guide"', drawing)) == 2
    assert re.findall(r'<text x="[\d.]+" y="[\d.]+">([a-z]\w*)</text>', drawing) == list(PLANTED)
    assert "Identity after the edit" not in text


def test_one_strength_of_a_direction_is_a_point_not_a_curve():
    text = page.page(planted_report((2,)), [])
    assert "Fidelity against change" not in text
    assert "Identity after the edit: age" in text
