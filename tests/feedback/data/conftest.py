from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare
from counterpoint.feedback.data.store import Store
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.workload import Preparation


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Store]:
    """Prepare a raw log: ``prepared(data, labels={…}, data={"core": 5})``; the core is 1 unless given."""

    def run(
        log: Path,
        /,
        *,
        format_name: str | None = None,
        on_bad_row: str = "stop",
        name: str = "store",
        **sections: object,
    ) -> Store:
        settings = {"core": 1, **sections.pop("data", {})}
        recipe = FeedbackRecipe.model_validate({"name": "test", "data": settings, **sections})
        return prepare(find(log, format_name), tmp_path / name, recipe, Preparation(on_bad_row=on_bad_row))

    return run
