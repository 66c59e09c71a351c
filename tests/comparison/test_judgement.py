import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from counterpoint.comparison.judgement import compare_groups
from counterpoint.comparison.payoff import auxiliaries
from counterpoint.comparison.significance import paired_bootstrap
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.evaluated import Evaluated
from counterpoint.reporting import grids, side_by_side
from counterpoint.reporting.document import write_report
from counterpoint.runs.records import grouped, read_run, write_evaluation
from counterpoint.storage.files import read_json, write_json
from run_folders import evaluation, write_run


def evaluated(folder: Path, name, seed, auc, *, tasks=3, noted=None, **changes):
    """A run whose AUC is known for every impression."""
    write_run(folder, name=name, method="mtrec" if tasks > 1 else "single", seed=seed, steps=12)
    (folder / "evaluation-test.json").unlink()
    auc = np.asarray(auc, dtype=np.float64)
    values = {"auc": auc, "mrr": auc / 2}
    metrics = {
        metric: None if np.isnan(each).all() else float(np.nanmean(each)) for metric, each in values.items()
    }
    record = evaluation(metrics={**metrics, "category/accuracy": 0.8}, **changes)
    write_evaluation(folder, Evaluated.of(record, values, {"random": {"auc": np.full(len(auc), 0.5)}}))
    write_json(folder / "run.json", {**read_json(folder / "run.json"), **(noted or {})})
    if tasks == 1:
        lines = [json.loads(line) for line in (folder / "balance.jsonl").read_text().splitlines()]
        kept = [{"step": line["step"], "losses": {"click": line["losses"]["click"]}} for line in lines]
        (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    return folder


@pytest.fixture
def aucs():
    """The AUC of 60 impressions for three recipes with two seeds, one impression without a click."""
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.4, 0.9, size=60)
    shift = {"bert": 0.0, "mtrec": 0.05, "pcgrad": 0.02}
    values = {
        name: [hardness + gain + 0.05 * rng.normal(size=60) for _ in range(2)] for name, gain in shift.items()
    }
    for seeds in values.values():
        for auc in seeds:
            auc[7] = np.nan
    return values


@pytest.fixture
def compared(aucs, tmp_path):
    def go(*names, **options):
        runs = [
            evaluated(tmp_path / f"{name}-{seed}", name, seed, auc, tasks=1 if name == "bert" else 3)
            for name in names
            for seed, auc in enumerate(aucs[name])
        ]
        return compare_groups(grouped([read_run(run) for run in runs]), **options)

    return go


def test_a_difference_is_that_of_the_seeds_mean_metric(compared, aucs):
    found = compared("bert", "mtrec")
    assert (found.baseline, found.metric, found.units, found.scored) == ("bert", "auc", 60, 59)
    base, other = found.contenders
    assert base.against == {}
    means = {name: np.mean(seeds, axis=0) for name, seeds in aucs.items()}
    difference = other.against["auc"]
    expected = paired_bootstrap(means["mtrec"], means["bert"])
    assert difference.interval == pytest.approx(expected)
    assert difference.interval.low > 0
    assert other.against["mrr"].interval.mean_difference == pytest.approx(expected.mean_difference / 2)
    own = paired_bootstrap(means["mtrec"], np.zeros(60))
    assert other.limits["auc"] == pytest.approx((own.low, own.high))
    by_seed = [[np.nanmean(auc) for auc in aucs[name]] for name in ("mtrec", "bert")]
    assert difference.seeds.p_value == pytest.approx(stats.ttest_rel(*by_seed).pvalue)
    # One comparison is no reason to adjust.
    assert (difference.adjusted, difference.seeds_adjusted) == (None, None)


def test_several_p_values_are_adjusted(compared):
    found = compared("bert", "mtrec", "pcgrad")
    differences = [contender.against["auc"] for contender in found.contenders[1:]]
    low, high = sorted(difference.interval.p_value for difference in differences)
    assert sorted(difference.adjusted for difference in differences) == pytest.approx(
        [2 * low, max(2 * low, high)]
    )
    low, high = sorted(difference.seeds.p_value for difference in differences)
    assert sorted(difference.seeds_adjusted for difference in differences) == pytest.approx(
        [min(1, 2 * low), min(1, max(2 * low, high))]
    )


def test_the_baseline_may_be_any_of_them(compared):
    found = compared("bert", "mtrec", baseline="mtrec", metric="mrr", title="Mine")
    assert found.title == "Mine"
    assert found.contenders[0].against["mrr"].interval.mean_difference < 0
    assert found.contenders[1].against == {}
    assert side_by_side.differences(found).header[0] == "gain in mrr"


def test_a_single_seed_has_no_test_over_seeds(tmp_path, aucs):
    runs = [evaluated(tmp_path / name, name, 0, aucs[name][0]) for name in ("bert", "mtrec")]
    found = compare_groups(grouped([read_run(run) for run in runs]))
    assert found.contenders[1].against["auc"].seeds is None
    assert "A recipe has 1 seed: train 3 or more before any claim." in side_by_side.results(found).notes


def test_the_test_over_seeds_pairs_what_both_have(tmp_path, aucs):
    seeds = {"bert": (0, 1, 2), "mtrec": (1, 2, 5)}
    runs = [
        evaluated(tmp_path / f"{name}-{seed}", name, seed, aucs[name][seed % 2] + 0.01 * seed)
        for name, chosen in seeds.items()
        for seed in chosen
    ]
    found = compare_groups(grouped([read_run(run) for run in runs]))
    values = {
        each.row.name: dict(zip(each.seeds, each.values["auc"], strict=True)) for each in found.contenders
    }
    both = [[values[name][seed] for seed in (1, 2)] for name in ("mtrec", "bert")]
    assert found.contenders[1].against["auc"].seeds.p_value == pytest.approx(stats.ttest_rel(*both).pvalue)


def test_costs_are_those_that_were_noted(tmp_path, aucs):
    noted = [
        {
            "seconds": 100.0 + 50 * seed,
            "seconds per step": 0.1,
            "peak megabytes": 900 + seed,
            "parameters trained": 7,
        }
        for seed in range(2)
    ]
    runs = [
        evaluated(tmp_path / f"m{seed}", "mtrec", seed, aucs["mtrec"][seed], noted=noted[seed])
        for seed in (0, 1)
    ]
    runs += [
        evaluated(tmp_path / "b", "bert", 0, aucs["bert"][0], noted={"seconds": None, "parameters": None})
    ]
    found = compare_groups(grouped([read_run(run) for run in runs]))
    costs = found.contenders[0].costs
    assert (costs.seconds, costs.seconds_per_step, costs.megabytes, costs.trained) == (125, 0.1, 900, 7)
    assert math.isnan(found.contenders[1].costs.seconds)
    assert side_by_side.costs(found).rows[0][1] == ["2.1 min", "0.100 s", "900 MB", "22,713,216", "7"]
    assert side_by_side.costs(found).rows[1][1] == ["—"] * 5


def test_the_json_holds_everything_and_is_strict(compared, tmp_path):
    found = compared("bert", "mtrec")
    write_json(tmp_path / "comparison.json", found.as_dict())
    read = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    mtrec = read["recipes"]["mtrec"]
    assert mtrec["seeds"] == [0, 1]
    assert len(mtrec["metrics"]["auc"]["values"]) == 2
    assert mtrec["metrics"]["category/accuracy"]["interval"] is None
    assert set(mtrec["against the baseline"]["auc"]) >= {
        "mean_difference",
        "low",
        "high",
        "p_value",
        "over seeds",
    }
    assert read["does the auxiliary task pay"][0]["label"] == "mtrec"
    assert read["floors"]["random"]["auc"] == 0.5003


def test_markdown_marks_what_does_not_beat_a_floor(tmp_path, aucs):
    runs = [
        evaluated(tmp_path / name, name, 0, np.full(20, auc)) for name, auc in (("good", 0.7), ("bad", 0.6))
    ]
    found = compare_groups(grouped([read_run(run) for run in runs]))
    lines = grids.markdown("T", [side_by_side.results(found), side_by_side.differences(found)]).splitlines()
    assert lines[0] == "# T"
    assert "|  | auc | mrr | category/accuracy | ndcg@5 | ndcg@10 |" in lines
    assert any(line.startswith("| good | 0.7000 | 0.3500 |") for line in lines)
    assert any(line.startswith("| bad | 0.6000 ↓ | 0.3000 |") for line in lines)
    assert any(line.startswith("| floor: content | 0.6120 |") for line in lines)
    assert any(line.startswith("| optimum (simulated) | 0.7731 |") for line in lines)
    assert "| bad | -0.1000 | -0.1000 to -0.1000 | < 0.001 | — |" in lines


def test_simulated_data_is_called_so(tmp_path, aucs):
    for number, manifest in enumerate(({"simulated": True}, {"simulated articles": 5}, {})):
        runs = [
            evaluated(
                tmp_path / f"{name}{number}", name, 0, aucs[name][0], noted={"store": {"manifest": manifest}}
            )
            for name in ("bert", "mtrec")
        ]
        found = compare_groups(grouped([read_run(run) for run in runs]))
        assert side_by_side.heading(found) == "bert, mtrec" + " (simulated data)" * bool(manifest)


@pytest.fixture
def pair(tmp_path, aucs):
    """Two runs of different recipes, given what their evaluations say."""

    def make(first=None, second=None, length=60):
        runs = [
            evaluated(tmp_path / "bert", "bert", 0, aucs["bert"][0], **(first or {})),
            evaluated(tmp_path / "mtrec", "mtrec", 0, aucs["mtrec"][0][:length], **(second or {})),
        ]
        return grouped([read_run(run) for run in runs])

    return make


def test_runs_on_different_splits_are_refused(pair, tmp_path):
    groups = pair({"data": {"fingerprint": "a"}}, {"data": {"fingerprint": "b"}})
    said = (
        f"{tmp_path / 'bert'} and {tmp_path / 'mtrec'} were evaluated on different splits called 'test'; "
        "evaluate both on the same data to compare them."
    )
    with pytest.raises(CounterpointError, match=re.escape(said)):
        compare_groups(groups)


def test_a_run_without_a_fingerprint_is_believed(pair):
    assert compare_groups(pair({"data": {"fingerprint": "a"}}, {"data": {"fingerprint": None}})).contenders


def test_different_numbers_of_impressions_are_refused(pair):
    with pytest.raises(
        CounterpointError, match="bert and mtrec were evaluated on 60 and 50 impressions; evaluate both"
    ):
        compare_groups(pair(length=50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"baseline": "mtrek"},
            r"no recipe here is called 'mtrek' \(did you mean 'mtrec'\?\); .* bert, mtrec\.",
        ),
        (
            {"metric": "aux"},
            r"no metric of single units is called 'aux' \(did you mean 'auc'\?\); known: auc, mrr\.",
        ),
        ({"metric": "category/accuracy"}, "no metric of single units is called 'category/accuracy'"),
    ],
)
def test_what_is_not_there_is_one_sentence(pair, options, message):
    with pytest.raises(UsageError, match=message):
        compare_groups(pair(), **options)


def test_a_split_that_was_not_evaluated(pair, tmp_path):
    with pytest.raises(
        CounterpointError,
        match=r"bert: not evaluated on split 'dev'; run counterpoint evaluate .*--split dev",
    ):
        compare_groups(pair(), split="dev")


def test_labels_that_cannot_give_the_metric(tmp_path):
    runs = [evaluated(tmp_path / name, name, 0, np.full(9, np.nan)) for name in ("bert", "mtrec")]
    with pytest.raises(
        CounterpointError, match="'test' cannot give auc: none of its 9 impressions has the labels that it"
    ):
        compare_groups(grouped([read_run(run) for run in runs]))


def write_balance(folder, gradients, *, names, merged=False, hidden=()):
    """A balance.jsonl of actual gradients: (steps, tasks, coordinates), the target first."""
    lines = []
    for step, rows in enumerate(gradients, 1):
        labels = [names[0], "+".join(names[1:])] if merged else list(names)
        taken = np.stack([rows[0], rows[1:].sum(axis=0)]) if merged else rows
        norms = np.linalg.norm(taken, axis=1)
        cosines = {
            f"{labels[i]}|{labels[j]}": None
            if (i, j) in hidden
            else float(taken[i] @ taken[j] / norms[i] / norms[j])
            for i in range(len(labels))
            for j in range(i + 1, len(labels))
        }
        losses = dict.fromkeys(names, 1.0)
        lines.append(
            {
                "step": step,
                "losses": losses,
                "norms": dict(zip(labels, norms.tolist(), strict=True)),
                "cosines": cosines,
            }
        )
    (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_the_auxiliaries_as_one_equal_the_sum_of_their_gradients(run, tasks, merged):
    gradients = np.random.default_rng(tasks).normal(size=(50, tasks, 6))
    write_balance(run, gradients, names=("click", "b", "c", "d")[:tasks], merged=merged)
    found = auxiliaries(read_run(run))
    target, other = gradients[:, 0], gradients[:, 1:].sum(axis=1)
    norms = np.linalg.norm(target, axis=1), np.linalg.norm(other, axis=1)
    cosine = (target * other).sum(axis=1) / norms[0] / norms[1]
    np.testing.assert_allclose(found.cosine.values, cosine, atol=1e-9)
    np.testing.assert_allclose(found.ratio.values, norms[1] / norms[0])
    assert found.conflict_rate == (cosine < 0).mean()
    assert 0.2 < found.conflict_rate < 0.8


def test_conflicts_are_known_where_the_auxiliaries_never_met(run):
    gradients = np.random.default_rng(0).normal(size=(50, 3, 6))
    write_balance(run, gradients, names=("click", "b", "c"), hidden={(1, 2)})
    found = auxiliaries(read_run(run))
    assert found.conflict_rate == ((gradients[:, 0] * gradients[:, 1:].sum(axis=1)).sum(axis=1) < 0).mean()
    assert (found.cosine, found.ratio) == (None, None)


def test_gradients_that_were_never_taken_apart_tell_nothing(run):
    lines = [{"step": 1, "losses": {"click": 1.0, "b": 1.0}, "norms": {"click+b": 1.0}, "cosines": {}}]
    (run / "balance.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert auxiliaries(read_run(run)) is None


def test_does_the_auxiliary_task_pay(tmp_path, aucs):
    # Two of four steps in conflict; the auxiliary's norm is 3, 1, 1, 5 times the target's.
    target = np.tile([1.0, 0.0], (4, 1))
    other = np.array([[3.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-5.0, 0.0]])
    pace = {"seconds per step": 0.3, "target": "click"}
    many = evaluated(tmp_path / "m", "mtrec", 0, aucs["mtrec"][0], noted=pace)
    write_balance(many, np.stack([target, other], axis=1), names=("click", "category"))
    one = evaluated(tmp_path / "b", "bert", 0, aucs["bert"][0], tasks=1, noted={"seconds per step": 0.2})
    found = compare_groups(grouped([read_run(many), read_run(one)]))
    (payoff,) = found.payoffs
    assert (payoff.label, payoff.against) == ("mtrec", "bert")
    assert (payoff.conflict_rate, payoff.norm_ratio, payoff.step_cost) == pytest.approx((0.5, 2.0, 1.5))
    assert payoff.gain == pytest.approx(paired_bootstrap(aucs["mtrec"][0], aucs["bert"][0]))
    name, cells, _ = side_by_side.payoffs(found).rows[0]
    assert (name, cells[2:]) == ("mtrec", ["50.0%", "2", "1.50"])


def test_without_a_single_task_recipe_there_is_nothing_to_pay_against(pair):
    found = compare_groups(pair())
    assert found.payoffs == []
    assert side_by_side.payoffs(found) is None


def test_the_report_of_several_recipes_sets_them_side_by_side(compared, tmp_path):
    compared("bert", "mtrec")
    runs = sorted(tmp_path.glob("*-[01]"))
    page = write_report(runs, tmp_path / "report.html", baseline="bert").read_text(encoding="utf-8")
    for heading in ("Side by side, test", "Against bert", "Does the auxiliary task pay?", "Costs"):
        assert f"<h2>{heading}</h2>" in page
    assert "<figcaption>auc</figcaption>" in page
    single = write_report(runs[:1], tmp_path / "one.html").read_text(encoding="utf-8")
    assert "Side by side" not in single


def test_runs_that_cannot_be_compared_are_still_reported(pair, tmp_path):
    pair({"data": {"fingerprint": "a"}}, {"data": {"fingerprint": "b"}})
    page = write_report([tmp_path / "bert", tmp_path / "mtrec"], tmp_path / "report.html").read_text(
        encoding="utf-8"
    )
    assert "were evaluated on different splits called &#x27;test&#x27;" in page
    assert "<h2>Results, test</h2>" in page


def test_editorial_measures_stand_beside_the_clicks_and_the_floors(tmp_path):
    measures = {
        "model": {"diversity@5": 0.5, "category calibration@5": None, "category calibration@5 left out": 3.0},
        "clicks": {"diversity@5": 0.8},
        "random": {"diversity@5": 0.9},
    }
    other = {**measures, "model": {"diversity@5": 0.7}}
    grid = side_by_side.editorial(
        {"mtrec": [{"editorial": measures}, {"editorial": other}], "bert": [{}]}, "test"
    )
    assert list(grid.header) == ["diversity@5", "category calibration@5"]
    assert [(name, cells) for name, cells, _ in grid.rows] == [
        ("mtrec", ["0.6000 ± 0.1414", "—"]),
        ("clicks", ["0.8000", "—"]),
        ("random", ["0.9000", "—"]),
    ]
    assert side_by_side.editorial({"bert": [{}]}, "test") is None
    run = evaluated(tmp_path / "run", "mtrec", 0, [0.5, 0.6], editorial=measures)
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Editorial measures, test</h2>" in page


def test_the_auxiliary_task_pays_against_the_baseline_if_that_is_single_task(tmp_path, aucs):
    groups = [
        evaluated(tmp_path / "p", "popularity", 0, aucs["bert"][0] / 2, tasks=1),
        evaluated(tmp_path / "b", "bert", 0, aucs["bert"][0], tasks=1),
        evaluated(tmp_path / "m", "mtrec", 0, aucs["mtrec"][0]),
    ]
    read = grouped([read_run(folder) for folder in groups])
    assert [payoff.against for payoff in compare_groups(read, baseline="bert").payoffs] == ["bert"]
    assert [payoff.against for payoff in compare_groups(read, baseline="mtrec").payoffs] == ["popularity"]
