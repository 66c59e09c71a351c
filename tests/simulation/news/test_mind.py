"""The simulated site keeps MIND's format, and its clicks follow the probabilities it states."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from counterpoint.errors import UsageError
from counterpoint.simulation.news.mind import START, simulate
from peaks import peak_megabytes

DEV_DAY = START + timedelta(days=5)


@dataclass(frozen=True)
class Impression:
    number: int
    reader: str
    time: datetime
    history: list[str]
    candidates: list[str]
    clicked: np.ndarray


@dataclass(frozen=True)
class Site:
    folder: Path
    counts: dict[str, int]

    def articles(self, split: str) -> list[list[str]]:
        lines = (self.folder / split / "news.tsv").read_text(encoding="utf-8").split("\n")
        assert lines.pop() == ""
        return [line.split("\t") for line in lines]

    def impressions(self, split: str) -> list[Impression]:
        return self._train if split == "train" else self._dev

    @cached_property
    def _train(self) -> list[Impression]:
        return read_impressions(self.folder / "train" / "behaviors.tsv")

    @cached_property
    def _dev(self) -> list[Impression]:
        return read_impressions(self.folder / "dev" / "behaviors.tsv")

    def truth(self, split: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "truth" / f"{split}.parquet")

    def pooled(self, split: str) -> tuple[np.ndarray, pl.DataFrame]:
        clicked = np.concatenate([impression.clicked for impression in self.impressions(split)])
        return clicked, self.truth(split).explode("probability", "position_free", "position")


def read_impressions(file: Path) -> list[Impression]:
    impressions = []
    for line in file.read_text(encoding="utf-8").splitlines():
        number, reader, time, history, candidates = line.split("\t")
        ids, labels = zip(*(candidate.split("-") for candidate in candidates.split(" ")), strict=True)
        assert set(labels) == {"0", "1"}
        moment = datetime.strptime(time, "%m/%d/%Y %I:%M:%S %p")
        clicked = np.array(labels) == "1"
        impressions.append(Impression(int(number), reader, moment, history.split(), list(ids), clicked))
    return impressions


def mean_auc(impressions: list[Impression], score: Callable[[Impression], list[float]]) -> float:
    def auc(impression: Impression) -> float:
        scores = np.array(score(impression))
        ahead = scores[impression.clicked][:, None] - scores[~impression.clicked]
        return float(np.mean((ahead > 0) + 0.5 * (ahead == 0)))

    return float(np.mean([auc(impression) for impression in impressions]))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("simulated") / "site"
    return Site(folder, simulate(folder, readers=6_000, articles=1_000, seed=1).counts)


def test_the_folder_holds_the_files_and_says_that_they_are_simulated(site: Site) -> None:
    assert sorted(contents(site.folder)) == [
        *("README.md", "dev/behaviors.tsv", "dev/news.tsv", "simulation.json"),
        *("train/behaviors.tsv", "train/news.tsv", "truth/dev.parquet", "truth/train.parquet"),
    ]
    assert "simulated" in (site.folder / "README.md").read_text()
    described = json.loads((site.folder / "simulation.json").read_text())
    assert described["simulated"] is True
    assert described["parameters"]["seed"] == 1
    assert described["counts"] == site.counts
    for split in ("train", "dev"):
        impressions = site.impressions(split)
        assert site.counts[f"{split}_impressions"] == len(impressions)
        assert site.counts[f"{split}_clicks"] == sum(int(row.clicked.sum()) for row in impressions)


def test_articles_have_minds_eight_columns_and_true_offsets(site: Site) -> None:
    train, dev = site.articles("train"), site.articles("dev")
    assert len(dev) == site.counts["articles"] == len({row[0] for row in dev})
    assert [row for row in dev if row[0] in {known[0] for known in train}] == train
    assert len({row[1] for row in dev}) == 12
    assert len({row[2] for row in dev}) == 48
    kinds, mentions, labels = set(), 0, {}
    for row in dev:
        assert len(row) == 8
        assert row[5] == f"https://simulated.example/news/{row[0]}.html"
        for text, column in ((row[3], row[6]), (row[4], row[7])):
            for entity in json.loads(column):
                assert list(entity) == [
                    *("Label", "Type", "WikidataId", "Confidence", "OccurrenceOffsets", "SurfaceForms"),
                ]
                assert labels.setdefault(entity["WikidataId"], entity["Label"]) == entity["Label"]
                assert entity["WikidataId"].startswith("Q9000")
                assert 0.9 <= entity["Confidence"] <= 1
                kinds.add(entity["Type"])
                for offset, surface in zip(entity["OccurrenceOffsets"], entity["SurfaceForms"], strict=True):
                    assert text[offset : offset + len(surface)] == surface
                    assert surface in entity["Label"]
                    mentions += 1
    assert kinds == {"P", "O", "G", "C"}
    assert mentions > 2_000
    assert 0.02 < np.mean([row[4] == "" for row in dev]) < 0.09


def test_titles_are_short_diverse_and_tell_the_category(site: Site) -> None:
    dev = site.articles("dev")
    titles = [row[3] for row in dev]
    assert min(len(title.split()) for title in titles) >= 5
    assert max(len(title.split()) for title in titles) <= 17
    assert len(set(titles)) > 0.98 * len(titles)
    categories = [row[1] for row in dev]
    words = TfidfVectorizer().fit_transform(titles)
    model = LogisticRegression(max_iter=200).fit(words[:500], categories[:500])
    assert 0.6 < model.score(words[500:], categories[500:]) < 0.99


def test_impressions_have_minds_five_columns_and_known_articles(site: Site) -> None:
    for split in ("train", "dev"):
        impressions = site.impressions(split)
        known = {row[0] for row in site.articles(split)}
        assert [row.number for row in impressions] == list(range(1, len(impressions) + 1))
        for row in impressions:
            assert known.issuperset(row.history)
            assert known.issuperset(row.candidates)
            assert 5 <= len(row.candidates) <= 40
            assert len(set(row.candidates)) == len(row.candidates)
            assert 0 < row.clicked.sum() < len(row.candidates)
            assert (START if split == "train" else DEV_DAY) <= row.time
            assert row.time < (DEV_DAY if split == "train" else DEV_DAY + timedelta(days=1))
        clicks = [int(row.clicked.sum()) for row in impressions]
        assert 0.7 < np.mean(np.array(clicks) == 1) < 0.95
    assert len({row.reader for split in ("train", "dev") for row in site.impressions(split)}) == 6_000


def test_times_are_american_without_padding(site: Site) -> None:
    lines = (site.folder / "train" / "behaviors.tsv").read_text().splitlines()
    times = [line.split("\t")[2] for line in lines]
    days = {time.split(" ")[0] for time in times}
    assert days == {"9/28/2025", "9/29/2025", "9/30/2025", "10/1/2025", "10/2/2025"}
    assert {time.split(" ")[1].split(":")[0] for time in times} == {str(hour) for hour in range(1, 13)}
    assert {time.split(" ")[2] for time in times} == {"AM", "PM"}


def test_history_is_frozen_within_a_split_and_grows_by_the_training_clicks(site: Site) -> None:
    train = {row.reader: row.history for row in site.impressions("train")}
    dev = {row.reader: row.history for row in site.impressions("dev")}
    for split, histories in (("train", train), ("dev", dev)):
        assert all(row.history == histories[row.reader] for row in site.impressions(split))
    clicks: dict[str, list[tuple[datetime, list[str]]]] = {}
    for row in site.impressions("train"):
        clicked = [article for article, click in zip(row.candidates, row.clicked, strict=True) if click]
        clicks.setdefault(row.reader, []).append((row.time, clicked))
    both = train.keys() & dev.keys()
    assert len(both) > 500
    for reader in both:
        later = [article for _, clicked in sorted(clicks[reader]) for article in clicked]
        assert dev[reader] == train[reader] + later


def test_some_readers_are_cold_and_some_click_a_lot(site: Site) -> None:
    lengths = np.array([*{row.reader: len(row.history) for row in site.impressions("train")}.values()])
    assert 0.06 < np.mean(lengths == 0) < 0.10
    assert 0.06 < site.counts["cold_readers"] / 6_000 < 0.10
    assert 11 <= np.median(lengths) <= 18
    assert 100 < lengths.max() <= 400


def test_truth_is_calibrated_and_aligned(site: Site) -> None:
    for split in ("train", "dev"):
        truth = site.truth(split)
        impressions = site.impressions(split)
        assert truth["impression"].to_list() == [row.number for row in impressions]
        assert truth["probability"].list.len().to_list() == [len(row.candidates) for row in impressions]
        for positions in truth["position"].head(200):
            assert sorted(positions) == list(range(1, len(positions) + 1))
    clicked, pooled = site.pooled("train")
    order = np.argsort(pooled["probability"].to_numpy(), kind="stable")
    for decile in np.array_split(order, 10):
        expected = pooled["probability"].to_numpy()[decile]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(decile)
        assert abs(clicked[decile].mean() - expected.mean()) < 4 * error


def test_written_order_hides_the_position_whose_bias_is_visible_in_the_clicks(site: Site) -> None:
    clicked, pooled = site.pooled("train")
    position = pooled["position"].to_numpy()
    rates = [clicked[(position >= low) & (position < high)].mean() for low, high in ((1, 2), (3, 6), (9, 40))]
    assert rates[0] > 1.2 * rates[1] > 1.2 * 1.2 * rates[2]
    first = [int(positions[0]) for positions in site.truth("train")["position"]]
    assert np.mean(np.array(first) == 1) < 0.2


def test_optimum_and_floors_stand_in_their_bands(site: Site) -> None:
    for split in ("train", "dev"):
        best = dict(zip(site.truth(split)["impression"], site.truth(split)["position_free"], strict=True))
        assert 0.72 < mean_auc(site.impressions(split), lambda row, best=best: best[row.number]) < 0.81

    popularity, first_seen = Counter[str](), dict[str, datetime]()
    for row in site.impressions("train"):
        for article, click in zip(row.candidates, row.clicked, strict=True):
            first_seen[article] = min(row.time, first_seen.get(article, row.time))
            popularity[article] += int(click and row.time >= DEV_DAY - timedelta(days=1))
    seen = [row for row in site.impressions("dev") if row.time < DEV_DAY + timedelta(hours=8)]
    floor = mean_auc(seen, lambda row: [popularity[article] for article in row.candidates])
    assert 0.5 < floor < 0.62
    recency = mean_auc(
        site.impressions("dev"),
        lambda row: [first_seen.get(article, DEV_DAY).timestamp() for article in row.candidates],
    )
    assert 0.53 < recency < 0.62


def content_auc(site: Site) -> float:
    category = {row[0]: row[1] for row in site.articles("dev")}

    def score(row: Impression) -> list[float]:
        read = Counter(category[article] for article in row.history)
        return [read[category[article]] for article in row.candidates]

    return mean_auc([row for row in site.impressions("dev") if row.history], score)


def test_categories_explain_clicks_as_strongly_as_asked(site: Site, tmp_path: Path) -> None:
    assert 0.62 < content_auc(site) < 0.72
    counts = simulate(tmp_path / "none", readers=3_000, category_strength=0.0).counts
    assert 0.46 < content_auc(Site(tmp_path / "none", counts)) < 0.54


def test_old_articles_are_shown_and_clicked_less(site: Site) -> None:
    first_seen, shows = dict[str, datetime](), Counter[int]()
    rows = sorted(site.impressions("train"), key=lambda row: row.time)
    for row in rows:
        for article in row.candidates:
            first_seen.setdefault(article, row.time)
    clicks = Counter[int]()
    for row in rows:
        for article, click in zip(row.candidates, row.clicked, strict=True):
            if first_seen[article] > START + timedelta(days=1):
                age = (row.time - first_seen[article]).days
                shows[age] += 1
                clicks[age] += int(click)
    assert shows[0] > 1.3 * shows[1] > 1.3 * 1.3 * shows[2]
    assert clicks[0] / shows[0] > clicks[1] / shows[1] > clicks[2] / shows[2]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        # More readers than one block holds, so that the joining of blocks is covered too.
        simulate(tmp_path / name, readers=2_500, articles=200, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_sizes_shape_the_site(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    counts = simulate(
        tmp_path / "site",
        readers=50,
        articles=60,
        days=3,
        impressions_per_reader=30.0,
        candidates=(2, 3),
        category_strength=50.0,
        progress=lambda *said: told.append(said),
    ).counts
    site = Site(tmp_path / "site", counts)
    assert told[-1] == ("simulating readers", 50, 50)
    assert 1_200 < counts["train_impressions"] + counts["dev_impressions"] < 1_800
    assert {len(row.candidates) for row in site.impressions("train")} == {2, 3}
    _, pooled = site.pooled("train")
    assert pooled["probability"].is_between(0, 1).all()


def test_one_reader_is_enough(tmp_path: Path) -> None:
    counts = simulate(tmp_path / "site", readers=1, articles=60, impressions_per_reader=1.0).counts
    assert counts["train_impressions"] + counts["dev_impressions"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"readers": 0}, "readers is 0; give at least 1."),
        ({"articles": 59}, "articles is 59; give at least 60."),
        ({"articles": 99, "days": 10}, "articles is 99; give at least 100."),
        ({"days": 2}, "days is 2; give at least 3."),
        ({"seed": -1}, "seed is -1; give at least 0."),
        ({"impressions_per_reader": 0.5}, "impressions_per_reader is 0.5; give at least 1."),
        ({"impressions_per_reader": float("nan")}, "impressions_per_reader is nan; give at least 1."),
        ({"candidates": (1, 5)}, "candidates (fewest) is 1; give at least 2."),
        ({"candidates": (8, 7)}, "candidates (most) is 7; give at least 8."),
        ({"category_strength": -0.1}, "category_strength is -0.1; give at least 0."),
    ],
)
def test_bad_sizes_are_named_with_the_smallest_allowed(
    tmp_path: Path, options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(tmp_path / "site", **options)
    assert str(caught.value) == sentence
    assert not (tmp_path / "site").exists()


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="something is there already"):
        simulate(tmp_path, readers=1)
    with pytest.raises(UsageError, match="something is there already"):
        simulate(tmp_path / "mine.txt", readers=1, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"

    (tmp_path / "empty").mkdir()
    assert simulate(tmp_path / "empty", readers=1, articles=60).folder == tmp_path / "empty"
    simulate(tmp_path / "empty", readers=2, articles=60, overwrite=True)
    assert json.loads((tmp_path / "empty" / "simulation.json").read_text())["parameters"]["readers"] == 2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_readers(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from counterpoint.simulation.news.mind import simulate; "
        "simulate(Path({out!r}), readers={readers}, articles=300)"
    )
    peaks = [
        peak_megabytes(program, out=str(tmp_path / str(count)), readers=count) for count in (6_000, 24_000)
    ]
    assert peaks[1] < peaks[0] + 60
