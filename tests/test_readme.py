"""The README is short; its example runs, and so does the one of the page on balancing."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from counterpoint import balance

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def test_it_fits_a_screen_or_two() -> None:
    assert len(README.encode()) <= 12_288


def test_the_example_runs_and_learns() -> None:
    code = README.partition("<!-- plain loop")[2].partition("```python\n")[2].partition("```")[0]
    assert len(code.strip().splitlines()) <= 24
    torch.manual_seed(0)
    once: dict[str, Any] = {}
    exec(code.replace("range(200)", "range(1)"), once)
    torch.manual_seed(0)
    trained: dict[str, Any] = {}
    exec(code, trained)
    assert isinstance(trained["report"], balance.Report)
    assert (trained["report"].losses < 0.5 * once["report"].losses).all()


def test_a_method_of_one_s_own_as_the_documentation_adds_it() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "balancing.md").read_text(encoding="utf-8")
    code = page.partition("## Adding a method")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    for options in ({}, {"granularity": "tensor"}, {"every": 2}, {"passes": "representation"}):
        balancer = names["Longest"](beta=0.5, **options)
        assert balancer.merge(gradients, tasks=("a", "b")).tolist() == [0.0, 2.0]
        weights = balancer.weights(torch.diag(torch.tensor([9.0, 4.0])), tasks=("a", "b"))
        state = balancer.state_dict()
        held = "every" in options  # for this second step
        assert weights.tolist() == ([0.0, 1.0] if held else [1.0, 0.0])
        assert state["lengths"] == ({"a": 0.5, "b": 1.0} if held else {"a": 1.75, "b": 1.5})
        fresh = names["Longest"](beta=0.5, **options)
        fresh.load_state_dict(state)
        layer = nn.Linear(2, 2)
        outputs = layer(torch.eye(2)).tanh()
        losses = {"a": outputs.square().sum(), "b": outputs.sum()}
        given = {"representation": outputs} if "passes" in options else {"shared": layer.parameters()}
        assert fresh.backward(losses, **given).weights.sum() == (2 if "granularity" in options else 1)
