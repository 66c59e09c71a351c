from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare
from counterpoint.behaviors.data.store import Store
from counterpoint.workload import Preparation

from .shop_logs import shop_recipe

TASKS = ("buy", "click", "cart", "favourite")


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Store]:
    """Prepare a raw log: ``prepared(data, tasks=…, least_bought=…)``; thresholds are 1 unless given."""

    def run(
        data: Path,
        *,
        tasks: tuple[str, ...] = TASKS,
        format_name: str | None = None,
        on_bad_row: str = "stop",
        name: str = "store",
        **settings: object,
    ) -> Store:
        recipe = shop_recipe(tasks, **{"least_bought": 1, "least_buyers": 1, **settings})
        return prepare(find(data, format_name), tmp_path / name, recipe, Preparation(on_bad_row=on_bad_row))

    return run
