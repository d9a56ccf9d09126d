"""Figures of `hep measure-asymmetry`, from arrays made by hand."""

import numpy as np

from hepcli.engine import CircleScan
from hepcli.experiments.figures.pictures import PictureAxes, _convergence


def test_markers_are_filled_where_the_median_circle_has_settled_and_what_was_left_out_counts_nowhere():
    kept = np.array([True, False, True, True])
    residual = np.zeros((2, 2, 4))
    residual[1, 1] = (1e-3, 0, 1e-3, 0)  # two of the three that count have not settled
    error = np.full((2, 2, 4), 0.1)
    error[:, :, 1] = 9
    scan = CircleScan(error, residual)
    axes = PictureAxes(np.zeros(3), (0.1, 0.5), (2, 4), "hep", 0.5, 20)
    by_number, by_radius = _convergence(scan, kept, axes, "").panels
    assert [series.settled for series in by_number.series] == [(True, True), (True, False)]
    assert [series.settled for series in by_radius.series] == [(True, True), (True, False)]
    assert all(y == 0.1 for panel in (by_number, by_radius) for series in panel.series for y in series.y)
    assert by_number.series[1].label == "|β| = 0.5 (this run)"
