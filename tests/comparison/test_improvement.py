import numpy as np
import pytest

from counterpoint.comparison.improvement import relative_improvement
from counterpoint.errors import CounterpointError
from counterpoint.metrics.groups import average

# Paper 5, Table 2, Wechat.
TASKS = ("ev", "lv", "cv", "like", "follow", "forward")
SINGLE = dict(zip(TASKS, (0.7641, 0.8484, 0.7610, 0.8661, 0.8829, 0.8940), strict=True))
EQUAL = dict(zip(TASKS, (0.7641, 0.8484, 0.7604, 0.8664, 0.8810, 0.9012), strict=True))
MGDA = dict(zip(TASKS, (0.7569, 0.8429, 0.7515, 0.8604, 0.8803, 0.8937), strict=True))


@pytest.mark.parametrize(
    ("method", "mean", "gained"), [(SINGLE, 0.8361, 0), (EQUAL, 0.8369, 0.00091), (MGDA, 0.8309, -0.00639)]
)
def test_averages_and_improvements_are_those_that_paper_5_prints(method, mean, gained):
    """As far as they follow from AUCs that are printed with four digits."""
    assert average(method) == pytest.approx(mean, abs=6e-5)
    assert relative_improvement(method, SINGLE) == pytest.approx(gained, abs=3e-5)


def test_a_task_without_a_value_leaves_no_mean_and_one_without_its_own_model_is_told():
    assert np.isnan(average({"like": float("nan"), "follow": 0.5}))
    assert np.isnan(average({}))
    with pytest.raises(CounterpointError, match="'follow' has no model of its own"):
        relative_improvement({"like": 0.6, "follow": 0.5}, {"like": 0.6})
