import re
import sys

import numpy as np
import pytest

from counterpoint.errors import CounterpointError
from counterpoint.reporting import page
from counterpoint.reporting.figures import POINTS, Bar, Point, bars, conflicts, curves, sweep
from counterpoint.reporting.series import conflict_share, smoothed, thinned
from counterpoint.reporting.svg import can_draw
from counterpoint.runs.records import Series


def series(values, first=1):
    values = np.asarray(values, dtype=np.float64)
    return Series(np.arange(first, first + len(values)), values)


def test_thinning_keeps_both_ends_and_the_order():
    thin = thinned(series(range(10_000)), 100)
    assert len(thin.steps) == 100
    assert (thin.steps[0], thin.steps[-1]) == (1, 10_000)
    assert (np.diff(thin.steps) > 0).all()
    assert (thin.values == thin.steps - 1).all()


def test_few_points_are_all_kept():
    few = series([3, 1, 2])
    assert thinned(few, 3) is few


def test_smoothing_is_the_moving_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100)
    reach = 5
    expected = [values[max(0, i - reach) : i + reach + 1].mean() for i in range(100)]
    np.testing.assert_allclose(smoothed(series(values), share=0.1).values, expected)


def test_smoothing_leaves_a_constant_alone():
    np.testing.assert_allclose(smoothed(series([2.5] * 333)).values, 2.5)


def test_the_conflict_share_counts_negative_cosines_only():
    assert conflict_share(np.array([-0.1, 0.0, 0.2, -0.3])) == 0.5


def test_the_scatter_marks_every_conflict_and_draws_zero():
    cosines = series([-0.1, 0.2, 0.3, -0.05, 0.01])
    figure = conflicts("click and rest", cosines)
    assert figure.title == "click and rest: in conflict at 40.0% of the steps"
    assert (figure.svg.count('fill="var(--c1)"'), figure.svg.count('fill="var(--c0)"')) == (2, 3)
    assert figure.svg.count("mark-rule role-mark") == 1


def test_the_share_in_the_title_is_of_all_steps_not_of_those_drawn():
    values = np.full(20_000, 0.1)
    values[::8] = -0.1
    figure = conflicts("x", series(values))
    assert "12.5%" in figure.title
    assert figure.svg.count('fill="var(--c') <= POINTS


def test_lines_of_one_name_share_a_colour():
    lines = [("mtrec", series([1, 2])), ("mtrec", series([2, 3])), ("sum", series([3, 4]))]
    figure = curves("auc", lines)
    strokes = re.findall(r'stroke="var\(--(c\d)\)"', figure.svg)
    assert {color: strokes.count(color) for color in ("c0", "c1")} == {"c0": 2, "c1": 1}
    assert list(figure.legend) == ["mtrec", "sum"]


def test_a_single_name_needs_no_legend():
    assert not curves("auc", [("mtrec", series([1, 2]))]).legend


def test_a_logarithmic_chart_leaves_zeros_out():
    figure = curves("norms", [("click", series([1.0, 0.0, 10.0]))], logarithmic=True)
    assert "NaN" not in figure.svg
    assert "Infinity" not in figure.svg


def test_a_noisy_curve_is_drawn_twice_within_the_budget():
    rng = np.random.default_rng(0)
    figure = curves("loss", [("mtrec", series(rng.random(30_000)))], noisy=True)
    drawn = re.findall(r'd="(M[^"]*)"[^>]*stroke="var', figure.svg)
    assert len(drawn) == 2
    assert sum(path.count("L") + 1 for path in drawn) <= POINTS


def test_more_series_than_colours_are_told_apart_by_dashes():
    figure = curves("auc", [(str(number), series([number, number + 1])) for number in range(10)])
    strokes = re.findall(r'stroke="var\(--c1\)"[^>]*', figure.svg)
    dashes = [re.search(r'stroke-dasharray="([\d.,]+)"', stroke).group(1) for stroke in strokes]
    assert sorted(dashes) == ["1,0", "5,3"]
    assert "dasharray" not in curves("auc", [(str(number), series([1, 2])) for number in range(8)]).svg


def test_a_chart_of_twelve_recipes_is_wide_and_draws_moving_means_alone():
    rng = np.random.default_rng(0)
    recipes = [(f"recipe {number}", series(rng.random(3000))) for number in range(12)]
    figure = curves("loss", recipes, noisy=True)
    assert figure.wide
    assert 'width="720"' in figure.svg
    assert len(figure.legend) == 12
    drawn = re.findall(r'd="(M[^"]*)"[^>]*stroke="var', figure.svg)
    assert len(drawn) == 12
    assert sum(path.count("L") + 1 for path in drawn) <= POINTS
    few = curves("loss", recipes[:3], noisy=True)
    assert not few.wide
    assert len(re.findall(r'd="(M[^"]*)"[^>]*stroke="var', few.svg)) == 6


def test_the_key_of_a_dashed_line_is_dashed():
    figure = curves("auc", [(str(number), series([number, number + 1])) for number in range(17)])
    markup = page.figures([figure])
    keys = re.findall(r'<li><i style="color: var\(--(c\d)\)"(?: class="(\w+)")?></i>(\d+)</li>', markup)
    assert keys[0] == ("c0", "", "0")
    assert keys[9] == ("c1", "dashed", "9")
    assert keys[16] == ("c0", "dotted", "16")
    assert '<figure class="broad">' in markup
    assert '<figure class="broad">' not in page.figures([curves("auc", [("a", series([1, 2]))])])


def points(svg):
    """Where the line goes through."""
    path = re.search(r'mark-line[^>]*><path d="M([^"]*)"', svg).group(1)
    return np.array([[float(number) for number in point.split(",")] for point in path.split("L")])


def test_numbers_of_a_sweep_stand_where_they_are():
    given = [Point(at, 0.1 * at, (0.1 * at - 0.01, 0.1 * at + 0.02)) for at in (0.0, 0.1, 1.0)]
    figure = sweep("ndcg@10", given, key="balance.relax")
    x, y = points(figure.svg).T
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.1, abs=0.01)
    assert (y[1] - y[0]) / (y[2] - y[0]) == pytest.approx(0.1, abs=0.01)
    assert ">balance.relax</text>" in figure.svg
    rules = re.search(r'<g class="mark-rule role-mark.*?</g>', figure.svg).group(0)
    heights = [abs(float(height)) for height in re.findall(r'y2="([-\d.]+)"', rules)]
    assert len(heights) == 3
    assert heights == pytest.approx([heights[0]] * 3)
    assert heights[0] == pytest.approx(0.3 * abs(y[2] - y[0]), rel=0.02)  # 0.03 of 0.1


def test_powers_of_ten_stand_evenly():
    figure = sweep("auc", [Point(at, 0.5) for at in (1e-5, 1e-4, 1e-3)], key="training.learning_rate")
    x = points(figure.svg)[:, 0]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.01)


def test_texts_of_a_sweep_stand_in_the_order_given():
    given = [Point("rmsprop", 0.3), Point("adam", 0.1), Point(2, 0.2)]
    figure = sweep("auc", given, key="training.optimizer")
    x, y = points(figure.svg).T
    assert (np.diff(x) > 0).all()
    assert y[0] < y[2] < y[1]
    places = [figure.svg.index(f">{name}</text>") for name in ("rmsprop", "adam", "2")]
    assert places == sorted(places)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(CounterpointError, match=r"pip install 'counterpoint\[report\]'"):
        curves("auc", [("mtrec", series([1, 2]))])


def test_bars_begin_at_chance_and_lines_stand_for_the_floors():
    values = [Bar("mtrec", 0.7, (0.65, 0.75)), Bar("bert", 0.6)]
    figure = bars("auc", values, {"random": 0.5, "content": 0.55}, base=0.5)
    assert figure.legend == ["mean and 95 % interval", "random", "content"]
    assert (figure.svg.count("mtrec"), figure.svg.count("bert")) == (1, 1)
    assert figure.svg.count('fill="var(--c0)"') == 2
    assert (figure.svg.count('stroke="var(--c1)"'), figure.svg.count('stroke="var(--c2)"')) == (1, 1)
    widths = [float(path) for path in re.findall(r'd="M[\d.]+,[\d.]+h([\d.]+)v9h', figure.svg)]
    assert widths[0] == pytest.approx(2 * widths[1])  # 0.2 and 0.1 above chance


def test_whether_charts_can_be_drawn_is_known_beforehand(monkeypatch):
    assert can_draw()
    monkeypatch.setattr("counterpoint.reporting.svg._PACKAGES", ("altair", "no_such_package"))
    assert not can_draw()
