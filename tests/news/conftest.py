from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.encoders.loading import load_tokenizer
from counterpoint.news.data.store import Store
from counterpoint.news.recipe import NewsRecipe
from counterpoint.simulation.news.mind import simulate
from news_stores import prepared_store


@pytest.fixture(scope="session")
def make_recipe(tiny_encoder: Path) -> Callable[..., NewsRecipe]:
    """A recipe of the tiny encoder in float32; sections are given as dictionaries."""

    def make(**sections: object) -> NewsRecipe:
        given = {key: value for key, value in sections.items() if key not in ("encoder", "training")}
        encoder = {"name": str(tiny_encoder), **sections.get("encoder", {})}
        training = {"precision": "fp32", "batch_size": 4, **sections.get("training", {})}
        table = {"name": "test", "encoder": encoder, "training": training, **given}
        return NewsRecipe.model_validate(table)

    return make


@pytest.fixture(scope="session")
def store_of(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Store]:
    """The prepared store of a raw folder."""

    def prepared(folder: Path, **settings: int) -> Store:
        out = tmp_path_factory.mktemp("stores") / folder.name
        return prepared_store(folder, out, load_tokenizer(str(tiny_encoder)), **settings)

    return prepared


@pytest.fixture(scope="session")
def simulated(store_of: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A little simulated site: 700 readers, 160 articles."""
    folder = tmp_path_factory.mktemp("simulated") / "site"
    simulate(folder, readers=700, articles=160, seed=3, candidates=(4, 12))
    return store_of(folder)
