import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from counterpoint.news.data.store import IGNORE
from counterpoint.news.tasks.tagging import entity_f1, untyped


def spans(tags):
    """Read entities token by token, as (begin, end, type)."""
    found, begun, kind = [], None, None
    for place, tag in enumerate([*tags, 0]):
        this = None if tag <= 0 else (tag + 1) // 2
        continues = this is not None and this == kind and tag % 2 == 0
        if not continues:
            if begun is not None:
                found.append((begun, place, kind))
            begun, kind = (None, None) if this is None else (place, this)
    return set(found)


def slow_f1(predicted, truth):
    seen = [0 if wanted == IGNORE else tag for tag, wanted in zip(predicted, truth, strict=True)]
    found, wanted = spans(seen), spans(truth)
    if not found and not wanted:
        return math.nan
    precision = len(found & wanted) / len(found) if found else 0
    recall = len(found & wanted) / len(wanted) if wanted else 0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(st.data())
def test_f1_is_that_of_reading_token_by_token(data):
    length = data.draw(st.integers(0, 12))
    of = st.sampled_from([0, 1, 2, 3, 4])
    predicted = data.draw(arrays.arrays(np.int64, length, elements=of))
    truth = data.draw(arrays.arrays(np.int64, length, elements=st.one_of(of, st.just(IGNORE))))
    expected = slow_f1(predicted.tolist(), truth.tolist())
    assert entity_f1(predicted, truth) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("predicted", "f1"),
    [
        ([9, 1, 2, 0, 3, 9], 1.0),  # what stands at special tokens does not count
        ([0, 1, 0, 0, 3, 0], 0.5),  # one entity ends too early
        ([0, 1, 2, 0, 1, 0], 0.5),  # one has the wrong type
        ([0, 2, 2, 0, 4, 0], 1.0),  # inside without begin begins
        ([0, 1, 1, 0, 3, 0], 0.4),  # one is cut in two
        ([0, 0, 0, 0, 0, 0], 0.0),
    ],
)
def test_f1_wants_begin_end_and_type(predicted, f1):
    truth = np.array([IGNORE, 1, 2, 0, 3, IGNORE])
    assert entity_f1(np.array(predicted), truth) == pytest.approx(f1)


def test_no_entity_continues_across_special_tokens():
    tags = np.array([IGNORE, 0, 1, IGNORE, IGNORE, 2, 0, IGNORE])
    assert entity_f1(np.array([0, 0, 1, 2, 2, 2, 0, 0]), tags) == 1.0


def test_untyped_keeps_begin_inside_outside_and_ignored():
    assert untyped(np.array([IGNORE, 0, 1, 2, 3, 4, 43, 44])).tolist() == [IGNORE, 0, 1, 2, 1, 2, 1, 2]
