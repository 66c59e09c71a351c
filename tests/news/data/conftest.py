from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from counterpoint.encoders.loading import load_tokenizer
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.news.data.store import Store
from news_stores import prepared_store

KEPT = ("labels", "splits", "counts", "simulated", "text", "texts", "history values", "fingerprints")


@pytest.fixture(scope="session")
def tokenizer(tiny_encoder: Path) -> Tokenizer:
    return load_tokenizer(str(tiny_encoder))


@pytest.fixture
def prepared(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Store]:
    """Prepare a raw folder: ``prepared(folder, max_title_tokens=…)``."""

    def run(folder: Path, name: str = "store", format_name: str | None = None, **options) -> Store:
        return prepared_store(folder, tmp_path / name, tokenizer, format_name=format_name, **options)

    return run


@pytest.fixture
def contents() -> Callable[[Store], dict]:
    """Return everything a store holds that its raw form must not change."""

    def plain(array: np.ndarray) -> list:
        return pl.Series(array).fill_nan(None).to_list() if array.dtype.kind == "f" else array.tolist()

    def read(store: Store) -> dict:
        arrays = {file.stem: plain(np.load(file)) for file in sorted(store.path.glob("arrays/*.npy"))}
        tables = {
            file.stem: pl.read_parquet(file).to_dicts()
            for file in sorted(store.path.glob("*.parquet"))
            if file.stem != "articles"
        }
        articles = pl.read_parquet(store.path / "articles.parquet").select("article", "title", "entities")
        kept = {key: store.manifest[key] for key in KEPT}
        return {**arrays, **tables, "articles": articles.to_dicts(), **kept}

    return read
