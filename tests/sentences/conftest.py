from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.api import read_recipe
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.encoders.tokens import Tokenizer
from counterpoint.sentences.data.layout import find
from counterpoint.sentences.data.prepare import prepare
from counterpoint.sentences.data.store import Store
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.workload import Preparation
from sentences.simulated import write_course


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of all three tasks; tests must not change them."""
    return write_course(tmp_path_factory.mktemp("course") / "data")


@pytest.fixture(scope="session")
def tokenizer(tiny_encoder: Path) -> Tokenizer:
    return load_tokenizer(str(tiny_encoder))


@pytest.fixture(scope="session")
def recipe(tiny_encoder: Path) -> Callable[..., SentencesRecipe]:
    """A built-in recipe on the small encoder, with settings over it."""

    def read(*settings: str, name: str = "minbert-final") -> SentencesRecipe:
        small = [
            f"encoder.name={tiny_encoder}",
            "data.max_tokens=24",
            "training.batch_size=4",
            "training.precision=fp32",
        ]
        resolved = read_recipe(name, [*small, *settings])
        assert isinstance(resolved, SentencesRecipe)
        return resolved

    return read


@pytest.fixture(scope="session")
def store(
    course: Path,
    recipe: Callable[..., SentencesRecipe],
    tokenizer: Tokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    """The course's files, prepared; tests must not change it."""
    resolved = recipe()
    out = tmp_path_factory.mktemp("store") / "store"
    return prepare(find(course, resolved), out, tokenizer, resolved, Preparation())
