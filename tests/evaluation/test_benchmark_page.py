"""What the benchmark's page draws: error maps and plots."""

import re

import numpy as np
import pytest

from sdic.evaluation.gallery import error_map
from sdic.evaluation.plots import Axis, Point, label_places, round_factors, scatter, ticks


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
    plot = scatter("T", Axis("s", logarithmic=True), Axis("q"), points)
    places = [tuple(map(float, p)) for p in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot)]
    assert len(places) == 2
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]  # y grows downwards in SVG
    assert "a&lt;b" in plot
    assert scatter("T", Axis("s", logarithmic=True), Axis("q"), points[2:]) == ""
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
