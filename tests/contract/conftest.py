from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import counterpoint
from contract.cases import CASES, Case
from counterpoint.runs.folder import Run
from counterpoint.workload import Store

OFTEN = (
    "training.precision=fp32",
    "training.validate_every=4",
    "training.checkpoint_every=3",
    "training.log_every=1",
)


@dataclass
class Heard:
    """A progress function that remembers how far each kind of work has come."""

    latest: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, label: str, done: int, total: int) -> None:
        assert 0 <= done <= total, label
        self.latest[label] = (done, total)

    def came_to_an_end(self) -> bool:
        """Whether there was something to hear, and all of it came to its end."""
        return bool(self.latest) and all(done == total for done, total in self.latest.values())


@dataclass(frozen=True)
class Told:
    """What came of some work, and what was heard of it.

    Attributes:
        result: of the work.
        heard: its progress.
    """

    result: Any
    heard: Heard


@pytest.fixture(scope="session", params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    """A workload; what is made of it below, is made once and must not be changed."""
    found: Case = request.param
    return found


@pytest.fixture(scope="session")
def settings(case: Case, tiny_encoder: Path) -> list[str]:
    return [*case.settings(tiny_encoder), *OFTEN]


@pytest.fixture(scope="session")
def raw(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(case.name) / "raw"
    case.write(folder)
    return folder


@pytest.fixture(scope="session")
def preparation(case: Case, settings: list[str], raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    out, heard = tmp_path_factory.mktemp(case.name) / "store", Heard()
    return Told(
        counterpoint.prepare(raw, recipe=case.recipe, settings=settings, out=out, progress=heard), heard
    )


@pytest.fixture(scope="session")
def store(preparation: Told) -> Store:
    found: Store = preparation.result
    return found


@pytest.fixture(scope="session")
def train(case: Case, settings: list[str], store: Store) -> Callable[..., Run]:
    """Train on the store into a folder."""

    def trained(out: Path, **options: Any) -> Run:
        return counterpoint.train(case.recipe, data=store.path, settings=settings, out=out, **options)

    return trained


@pytest.fixture(scope="session")
def training(case: Case, train: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Told:
    heard = Heard()
    return Told(train(tmp_path_factory.mktemp(case.name) / "run", progress=heard), heard)


@pytest.fixture(scope="session")
def run(training: Told) -> Path:
    found: Run = training.result
    return found.path


@pytest.fixture(scope="session")
def evaluation(run: Path) -> Told:
    heard = Heard()
    return Told(counterpoint.evaluate(run, progress=heard), heard)
