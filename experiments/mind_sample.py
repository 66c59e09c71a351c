"""MTRec and its ablations (paper 1, Fig. 4) on the real MIND sample: ``python -m experiments.mind_sample``.

Trains every recipe with every seed (finished runs are kept), evaluates the test day,
compares with the baseline by a paired bootstrap over impressions, writes ``mind_sample.json`` and the table
between the markers in the README.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterpoint import api
from counterpoint.cli import show
from counterpoint.evaluation.impressions import METRICS
from counterpoint.evaluation.significance import mean_and_spread, paired_bootstrap
from counterpoint.files import read_json, write_json
from counterpoint.news import workload
from counterpoint.news.evaluate import Outcome, evaluate
from counterpoint.run import Run

ROWS = {
    "bert": "`bert` (click task alone)",
    "mtrec": "`mtrec`",
    "mtrec-without-surgery": "`mtrec-without-surgery` (losses summed)",
    "mtrec-original-surgery": "`mtrec-original-surgery` (PCGrad)",
    "mtrec-without-category": "`mtrec-without-category`",
    "mtrec-without-entities": "`mtrec-without-entities`",
}
BASELINE = "bert"
HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- mind-sample: written by experiments/mind_sample.py -->", "<!-- mind-sample: end -->"


def main() -> None:
    """Run what is missing and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("COUNTERPOINT_DATA", "../shared/data")) / "mind" / "joined"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--runs", type=Path, default=Path("runs/mind-sample"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--table-only", action="store_true", help="write the README's table from the JSON file"
    )
    options = parser.parse_args()
    result = HERE / "mind_sample.json"
    if not options.table_only:
        write_json(result, _results(options.data, options.runs, options.seeds))
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = _table(read_json(result))
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _results(data: Path, runs: Path, seeds: int) -> dict[str, Any]:
    """Train, evaluate and compare."""
    metrics: dict[str, list[dict[str, float | None]]] = {name: [] for name in ROWS}
    aucs: dict[str, list[np.ndarray]] = {name: [] for name in ROWS}
    conflicts: dict[str, list[float | None]] = {name: [] for name in ROWS}
    for seed in range(seeds):
        for name in ROWS:
            run = runs / f"{name}-seed{seed}"
            show.say(f"{name}, seed {seed}")
            with show.progress() as progress:
                api.train(name, data=data, out=run, seed=seed, resume=True, progress=progress)
            outcome = _outcome(run, data)
            metrics[name].append(outcome.record["metrics"])
            aucs[name].append(outcome.ranking.per_impression["auc"])
            conflicts[name].append(_conflicts(run))
    mean_auc = {name: np.mean(values, axis=0) for name, values in aucs.items()}
    content = outcome.floors["content"].per_impression["auc"]
    return {
        "command": f"python -m experiments.mind_sample --seeds {seeds}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, torch {torch.__version__}",
        "impressions": outcome.ranking.scored,
        "seeds": list(range(seeds)),
        "metrics": metrics,
        "share of conflicts": conflicts,
        "floors": outcome.record["floors"],
        "auc against": {
            name: {
                rival: paired_bootstrap(values, baseline)._asdict()
                for rival, baseline in ((BASELINE, mean_auc[BASELINE]), ("content", content))
            }
            for name, values in mean_auc.items()
        },
    }


def _outcome(run: Path, data: Path) -> Outcome:
    """Return the evaluation of a run's best model on the test split, floors beside it."""
    recipe = workload.NewsRecipe.model_validate(Run.open(run).recipe_table())
    store = api.prepare(data, recipe=run / "recipe.toml")
    model = workload.load(Run.open(run).model, recipe, store)
    return evaluate(model, recipe, store, "test")


def _conflicts(run: Path) -> float | None:
    """Return the share of gradient pairs in conflict over the steps that took more than one gradient."""
    rates = [json.loads(line)["conflict_rate"] for line in (run / "balance.jsonl").open(encoding="utf-8")]
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if known else None


def _table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table with what is needed to repeat them."""
    names = " | ".join(_NAMES[metric] for metric in METRICS)
    lines = [
        f"| | {names} | AUC against `{BASELINE}` | against the content floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in ROWS.items():
        cells = []
        for metric in METRICS:
            mean, spread = mean_and_spread([seed[metric] for seed in result["metrics"][name]])
            cells.append(f"{mean:.4f} ± {spread:.4f}")
        against = result["auc against"][name]
        cells.append("" if name == BASELINE else _difference(against[BASELINE]))
        cells.append(_difference(against["content"]))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for name, floor in result["floors"].items():
        lines.append(f"| *floor: {name}* | {' | '.join(f'{floor[metric]:.4f}' for metric in METRICS)} | | |")
    seeds = ", ".join(map(str, result["seeds"]))
    lines += [
        "",
        f"Mean ± standard deviation over seeds {seeds} on {result['impressions']} test impressions; "
        "differences of the seeds' mean AUC with the 95 % interval of a paired bootstrap over impressions. "
        f"`{result['command']}`; {result['machine']}.",
    ]
    return "\n".join(lines)


_NAMES = {"auc": "AUC", "mrr": "MRR", "ndcg@5": "nDCG@5", "ndcg@10": "nDCG@10"}


def _difference(interval: dict[str, float]) -> str:
    return f"{interval['mean_difference']:+.4f} ({interval['low']:+.4f} to {interval['high']:+.4f})"


if __name__ == "__main__":
    main()
