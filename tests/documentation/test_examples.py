"""The examples in the docstrings of what users call say what comes out, and every such function has one."""

import doctest
import inspect
from importlib import import_module

import pytest

import counterpoint

MODULES = ("agreement", "calibration", "groups", "impressions", "topk")
EXAMPLES = doctest.DocTestParser()


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_metrics_hold(name: str) -> None:
    module = import_module(f"counterpoint.metrics.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", counterpoint.__all__)
def test_every_function_that_users_call_shows_a_call(name: str) -> None:
    function = getattr(counterpoint, name)
    calls = [example.source for example in EXAMPLES.get_examples(inspect.getdoc(function) or "")]
    assert any(f"{name}(" in call for call in calls)
