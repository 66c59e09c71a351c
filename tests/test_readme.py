"""The README's balancing section: its example runs, and it names every method."""

import re
from pathlib import Path
from typing import Any

import torch

from counterpoint import balance

SECTION = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
SECTION = SECTION.partition("## Use the balancing alone")[2].partition("\n## ")[0]


def test_the_example_runs_and_learns() -> None:
    code = SECTION.partition("```python\n")[2].partition("```")[0]
    assert len(code.strip().splitlines()) <= 24
    torch.manual_seed(0)
    once: dict[str, Any] = {}
    exec(code.replace("range(200)", "range(1)"), once)
    torch.manual_seed(0)
    trained: dict[str, Any] = {}
    exec(code, trained)
    assert isinstance(trained["report"], balance.Report)
    assert (trained["report"].losses < 0.5 * once["report"].losses).all()


def test_every_method_is_named() -> None:
    table = SECTION.partition("| family | methods |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == list(balance.available())
