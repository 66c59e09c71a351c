import zipfile

import numpy as np
import pytest

from counterpoint.errors import CounterpointError
from counterpoint.metrics.impressions import impression_metrics, ranks
from counterpoint.news import submit, workload
from counterpoint.news.evaluate import evaluate
from counterpoint.news.submit import write_submission
from counterpoint.progress import silent


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of odd sizes, so that borders fall everywhere."""
    monkeypatch.setattr(submit, "_IMPRESSIONS", 7)
    monkeypatch.setattr(submit, "_CANDIDATES", 61)


@pytest.fixture
def recipe(make_recipe):
    return make_recipe(tasks=("click",))


def read(path):
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("prediction.txt").decode().splitlines()
    pairs = [line.split(" ") for line in lines]
    ranked = [list(map(int, listed.strip("[]").split(","))) for _, listed in pairs]
    return [impression for impression, _ in pairs], np.concatenate(ranked)


@pytest.mark.parametrize("blocks", ["one block", "small_blocks"])
def test_a_submission_scores_as_the_evaluation_does(blocks, simulated, recipe, tmp_path, request):
    if blocks == "small_blocks":
        request.getfixturevalue(blocks)
    model = workload.trainee(recipe, simulated).model
    outcome = evaluate(model, recipe, simulated, "test", with_floors=False)
    written = write_submission(model, recipe, simulated, "test", tmp_path / "p.zip", silent)

    assert (written.units, written.unit) == (len(simulated.split("test")), "impressions")
    assert set(written.metrics) == set(outcome.ranking.metrics)
    for metric, value in outcome.ranking.metrics.items():
        assert written.metrics[metric] == pytest.approx(value, abs=1e-12)
    ids, ranked = read(tmp_path / "p.zip")
    assert ids == simulated.impression_ids(simulated.split("test"))
    assert ranked.tolist() == outcome.ranks.tolist()
    assert model.training


def test_ties_are_broken_as_for_the_whole_split(simulated, recipe, tmp_path, monkeypatch, small_blocks):
    def same_for_all(model, index, store, shown, *rest):
        return np.zeros(len(shown.candidates), dtype=np.float32)

    monkeypatch.setattr(submit, "score_impressions", same_for_all)
    model = workload.trainee(recipe, simulated).model
    written = write_submission(model, recipe, simulated, "validation", tmp_path / "p.zip", silent)
    shown = simulated.impressions(simulated.split("validation"))
    expected = ranks(np.zeros(len(shown.candidates)), shown.offsets)
    assert read(tmp_path / "p.zip")[1].tolist() == expected.tolist()
    means = impression_metrics(expected, shown.clicked == 1, shown.offsets).metrics
    assert written.metrics == pytest.approx(means, abs=1e-12)


def test_no_block_is_larger_than_its_bounds(simulated, recipe, tmp_path, monkeypatch, small_blocks):
    sizes = []
    score = submit.score_impressions

    def watched(model, index, store, shown, *rest):
        sizes.append((len(shown), len(shown.candidates)))
        return score(model, index, store, shown, *rest)

    monkeypatch.setattr(submit, "score_impressions", watched)
    model = workload.trainee(recipe, simulated).model
    write_submission(model, recipe, simulated, "test", tmp_path / "p.zip", silent)
    assert sum(impressions for impressions, _ in sizes) == len(simulated.split("test"))
    assert max(impressions for impressions, _ in sizes) == 7
    assert max(candidates for _, candidates in sizes) <= 61


def test_mind_s_file_is_called_prediction(simulated, recipe, tmp_path):
    model = workload.trainee(recipe, simulated).model
    write_submission(model, recipe, simulated, "validation", tmp_path / "p.zip", silent)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.namelist() == ["prediction.txt"]
        first = archive.read("prediction.txt").splitlines()[0].decode()
    shown = simulated.impressions(simulated.split("validation")[:1])
    assert sorted(map(int, first.split("[")[1].rstrip("]").split(","))) == list(
        range(1, len(shown.candidates) + 1)
    )


@pytest.mark.parametrize("damage", ["a rank", "an id", "lines missing", "lines more"])
def test_what_reads_back_differently_is_refused(
    damage, simulated, recipe, tmp_path, monkeypatch, small_blocks
):
    honest = submit._read_blocks

    def damaged(path, name, sizes=None):
        blocks = list(honest(path, name, sizes))
        ids, ranked, lengths = blocks[2]
        first = slice(0, lengths[0])
        changes = {
            "a rank": [(ids, np.concatenate([ranked[first][::-1], ranked[lengths[0] :]]), lengths)],
            "an id": [(["x", *ids[1:]], ranked, lengths)],
            "lines missing": [],
            "lines more": [blocks[2], *blocks[2:]],
        }
        yield from [*blocks[:2], *changes[damage]]
        if damage == "a rank" or damage == "an id":
            yield from blocks[3:]

    monkeypatch.setattr(submit, "_read_blocks", damaged)
    model = workload.trainee(recipe, simulated).model
    with pytest.raises(
        CounterpointError, match=r"p.zip: reads back differently from what was written; check"
    ):
        write_submission(model, recipe, simulated, "validation", tmp_path / "p.zip", silent)


def zipped(path, text, name="prediction.txt"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("3 [1,2", "not an id and a list of ranks"),
        ("3", "not an id and a list of ranks"),
        ("3 [1, 2]", "not an id and a list of ranks"),
        ("3 []", "not an id and a list of ranks"),
        ("3 [1,x]", "not an id and a list of ranks"),
        ("3 [1,2] 4", "not an id and a list of ranks"),
        ("3 [1,1]", "the ranks are no permutation of 1 to 2"),
        ("3 [0,1,2]", "the ranks are no permutation of 1 to 3"),
        ("3 [1,3]", "the ranks are no permutation of 1 to 2"),
        ("3 [1,99999999999999999999]", "the ranks are no permutation of 1 to 2"),
    ],
)
def test_a_malformed_line_is_named(line, problem, tmp_path):
    path = zipped(tmp_path / "p.zip", f"1 [2,1]\n2 [1]\n{line}\n4 [1]\n")
    with pytest.raises(CounterpointError) as caught:
        list(submit._read_blocks(path, "prediction.txt"))
    assert str(caught.value) == f"{path}, prediction.txt, line 3: {problem}; write the submission again."


def test_what_is_no_submission_is_named(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"hello")
    for path in (tmp_path / "no.zip", zipped(tmp_path / "other.zip", "1 [1]", "ranks.txt")):
        with pytest.raises(CounterpointError, match=r"no zip with prediction.txt inside"):
            list(submit._read_blocks(path, "prediction.txt"))
