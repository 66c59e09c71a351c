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
from counterpoint.evaluation.tables import OPTIMUM
from counterpoint.files import read_json, write_json
from counterpoint.news import workload
from counterpoint.news.evaluate import evaluate
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
    metrics: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    aucs: dict[str, list[np.ndarray]] = {name: [] for name in ROWS}
    conflicts: dict[str, list[float]] = {name: [] for name in ROWS}
    floors: dict[str, Any] = {}
    for seed in range(seeds):
        for name in ROWS:
            run = runs / f"{name}-seed{seed}"
            with show.progress() as progress:
                show.say(f"{name}, seed {seed}")
                api.train(name, data=data, out=run, seed=seed, resume=True, progress=progress)
                record = api.evaluate(run, data=data, progress=progress)
            metrics[name].append(
                {key: value for key, value in record["metrics"].items() if value is not None}
            )
            floors = record["floors"]
            aucs[name].append(_per_impression(run, data))
            conflicts[name].append(_conflicts(run))
    mean_auc = {name: np.mean(values, axis=0) for name, values in aucs.items()}
    return {
        "command": f"python -m experiments.mind_sample --seeds {seeds}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, torch {torch.__version__}",
        "impressions": len(mean_auc[BASELINE]),
        "seeds": list(range(seeds)),
        "metrics": metrics,
        "conflict share": conflicts,
        "floors": {name: values for name, values in floors.items() if name != OPTIMUM},
        "auc against bert": {
            name: paired_bootstrap(values, mean_auc[BASELINE])._asdict()
            for name, values in mean_auc.items()
            if name != BASELINE
        },
    }


def _per_impression(run: Path, data: Path) -> np.ndarray:
    """Return the AUC of every impression of the test split."""
    recipe = workload.NewsRecipe.model_validate(Run.open(run).recipe_table())
    store = api.prepare(data, recipe=run / "recipe.toml")
    model = workload.load(Run.open(run).model, recipe)
    auc: np.ndarray = evaluate(model, recipe, store, "test", with_floors=False).ranking.per_impression["auc"]
    return auc


def _conflicts(run: Path) -> float:
    """Return the share of steps in which gradients that were taken apart were in conflict."""
    rates = [json.loads(line)["conflict_rate"] for line in (run / "balance.jsonl").open(encoding="utf-8")]
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if known else float("nan")


def _table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table with what is needed to repeat them."""
    lines = [
        "| | AUC | MRR | nDCG@5 | nDCG@10 | AUC against `bert`, 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in ROWS.items():
        cells = []
        for metric in METRICS:
            mean, spread = mean_and_spread([seed[metric] for seed in result["metrics"][name]])
            cells.append(f"{mean:.4f} ± {spread:.4f}")
        against = result["auc against bert"].get(name)
        cells.append(
            f"{against['mean_difference']:+.4f} ({against['low']:+.4f} to {against['high']:+.4f}), "
            f"p = {against['p_value']:.2f}"
            if against
            else ""
        )
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for name, floor in result["floors"].items():
        lines.append(f"| *floor: {name}* | {' | '.join(f'{floor[metric]:.4f}' for metric in METRICS)} | |")
    seeds = ", ".join(map(str, result["seeds"]))
    lines += [
        "",
        f"Mean ± standard deviation over seeds {seeds} on {result['impressions']} test impressions; the "
        "interval is a paired bootstrap over impressions of the seeds' mean AUC. "
        f"`{result['command']}`; {result['machine']}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
