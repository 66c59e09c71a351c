"""The papers' tables and ours: ``python -m experiments.reproduction [STUDY…]`` runs what is missing.

Each study of ``studies.toml`` is one ``counterpoint compare``; its result is kept in ``results/STUDY.json``.
``docs/results.md`` is written from them and from ``papers.toml``, which has what the papers print.
Without a study, and with ``--table-only``, only the page is written anew.
"""

import argparse
import math
import os
import platform
import tomllib
from pathlib import Path
from typing import Any

import torch

import counterpoint
from counterpoint.cli import show
from counterpoint.metrics.evaluated import OPTIMUM, by_task, overall
from counterpoint.progress import Progress
from counterpoint.simulation.news.ebnerd import simulate_ebnerd
from counterpoint.simulation.news.mind import simulate
from counterpoint.simulation.shop.log import simulate as simulate_behaviors
from counterpoint.simulation.views.log import simulate as simulate_feedback
from counterpoint.storage.files import read_json, write_json

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
NAMES = {name: name.upper() for name in ("auc", "gauc", "mrr", "av-a", "av-g", "ri-a", "ri-g")}
SIMULATE = {
    "news": simulate,
    "ebnerd": simulate_ebnerd,
    "behaviors": simulate_behaviors,
    "feedback": simulate_feedback,
}
NOTHING = "—"


def main() -> None:
    """Run the studies that are named and write the page."""
    studies = tomllib.loads((HERE / "studies.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(studies)}")
    default = Path(os.environ.get("COUNTERPOINT_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder of the real samples")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--seeds", type=int, default=3, help="of studies that do not say how many")
    parser.add_argument("--table-only", action="store_true", help="write the page from the results there are")
    options = parser.parse_args()
    unknown = set(options.studies) - set(studies)
    if unknown:
        parser.error(f"no study is called {min(unknown)!r}; known: {', '.join(studies)}")
    for name in () if options.table_only else options.studies:
        result = _run(name, studies[name], options)
        write_json(_result_file(name), result)
    results = {name: read_json(_result_file(name)) for name in studies if _result_file(name).is_file()}
    PAGE.write_text(_page(studies, results), encoding="utf-8")


def _run(name: str, study: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Compare the recipes of a study; return what came out and how."""
    data = options.data / study["data"] if "data" in study else options.runs / f"{name}-data"
    if "simulate" in study and not data.exists():
        settings = dict(study["simulate"])
        SIMULATE[settings.pop("kind")](data, **settings)
    with show.progress() as progress:
        tuned = [_tuned(name, study, data, options, progress)] if "tune" in study else []
        experiment = counterpoint.compare(
            [*study.get("recipes", ()), *tuned],
            data=data,
            seeds=study.get("seeds", options.seeds),
            baseline=study.get("baseline"),
            ablation=study.get("ablation"),
            settings=study["settings"],
            out=options.runs / study.get("runs", name),
            on_bad_row=study.get("on_bad_row", "stop"),
            progress=progress,
        )
    seeds = "" if "seeds" in study else f" --seeds {options.seeds}"
    return {
        "command": f"python -m experiments.reproduction {name}{seeds}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} a run",
        **experiment.comparison.as_dict(),
    }


def _tuned(
    name: str, study: dict[str, Any], data: Path, options: argparse.Namespace, progress: Progress
) -> Path:
    """Search the recipe that a study wants searched, by validation alone; return the best one's file."""
    search = study["tune"]
    found = counterpoint.tune(
        search["recipe"],
        data=data,
        trials=search["trials"],
        settings=[*study["settings"], *search["settings"]],
        out=options.runs / f"{name}-tune",
        on_bad_row=study.get("on_bad_row", "stop"),
        progress=progress,
    )
    return found.recipe


def _page(studies: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    papers = tomllib.loads((HERE / "papers.toml").read_text(encoding="utf-8"))
    parts = [
        "# Results",
        "Written by `python -m experiments.reproduction` from `experiments/results/`; no figure of ours on"
        " this page is typed by hand. First the studies that were run, on data that is at hand, each beside"
        " its floors and, where a paper has the same rows, beside the paper. Then what the papers print, row"
        " by row, with the command that gives ours on the same data: the full data sets must be downloaded"
        " by whoever accepts their licences, so those cells are empty.",
        *(_study(study, results[name]) for name, study in studies.items() if name in results),
        *(_paper(table) for table in papers["table"]),
    ]
    return "\n\n".join(parts) + "\n"


def _paper(table: dict[str, Any]) -> str:
    """Return a paper's rows with the recipe and the command that stand for each."""
    metrics = table["metrics"]
    header = ["row", "recipe", *(f"{_named(name)}, paper" for name in metrics), "ours on the same data"]
    rows = []
    digits = table["digits"] if isinstance(table["digits"], list) else [table["digits"]] * len(metrics)
    for row in table["rows"]:
        values = zip(row.get("paper", [""] * len(metrics)), digits, strict=True)
        printed = [f"{value:.{places}f}" if value != "" else NOTHING for value, places in values]
        rows.append([row["name"], f"`{row['recipe']}`", *printed, ""])
    return "\n\n".join(
        [
            f"## {table['title']}",
            f"{table['source']}; {table['data']}. Metrics in percent.",
            _table(header, rows),
            f"Ours is empty: {table['why_not']}. The command: "
            f"`{table['command'].format(recipe=' '.join(row['recipe'] for row in table['rows']))}`.",
        ]
    )


def _study(study: dict[str, Any], result: dict[str, Any]) -> str:
    """Return what a study found."""
    simulated = " (simulated data)" if result["simulated"] else ""
    parts = [f"## {study['title']}{simulated}", study["about"], _results(result)]
    parts += _beside_the_paper(study, result)
    if "reading" in study:
        parts.append(study["reading"])
    if result.get("relative improvement"):
        parts += ["### Relative improvement over separate networks", _improvements(result)]
    for metric, of_tasks in by_task(list(result["recipes"][result["baseline"]]["metrics"])).items():
        if metric in ("auc", "gauc"):
            parts += [f"### {_named(metric)} task by task", _task_by_task(result, of_tasks)]
    if result["does the auxiliary task pay"]:
        parts += ["### Does the auxiliary task pay?", _payoffs(result)]
    return "\n\n".join(parts)


def _results(result: dict[str, Any]) -> str:
    """Return recipes and floors, each recipe against the baseline, and how that was measured."""
    recipes, floors, baseline = result["recipes"], result["floors"], result["baseline"]
    decides = result["metric"]
    told = overall(list(recipes[baseline]["metrics"]))
    metrics = [name for name in told if name in next(iter(floors.values()))]
    ceiling = floors.get(OPTIMUM, {}).get(decides)
    start = recipes[baseline]["metrics"][decides]["mean"]
    header = ["", *map(_named, metrics), f"{_named(decides)} against `{baseline}`", "p", "p over seeds"]
    if ceiling is not None:
        header.append("of the reachable gain")
    rows = []
    for recipe, found in recipes.items():
        against = found["against the baseline"].get(decides)
        cells = [_spread(found["metrics"][metric]) for metric in metrics]
        cells += ["", "", ""] if against is None else _against(against)
        if ceiling is not None:
            gain = found["metrics"][decides]["mean"] - start
            cells.append("" if against is None else f"{gain / (ceiling - start):+.0%}")
        below = " ↓" if found["below a floor in"] else ""
        rows.append([f"`{recipe}`{below}", *cells])
    for floor, values in floors.items():
        kind = "" if floor == OPTIMUM else "floor: "
        printed = [_plain(values[metric]) for metric in metrics]
        rows.append([f"*{kind}{floor}*", *printed, *[""] * (len(header) - 1 - len(metrics))])
    seeds = ", ".join(map(str, recipes[baseline]["seeds"]))
    note = (
        f"{result['scored']:,} {result['unit']} of split {result['split']}, mean ± standard deviation over "
        f"seeds {seeds}. Differences: of the seeds' mean {_named(decides)}, with the 95 % interval and "
        f"two-sided p of a paired bootstrap over {result['unit']}, and p of a paired t-test over seeds; both "
        f"adjusted for all recipes of the study (Holm). ↓: below a floor in some metric. "
        f"`{result['command']}`; {result['machine']}."
    )
    return f"{_table(header, rows)}\n\n{note}"


def _beside_the_paper(study: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Return the paper's figures with ours, and what others report, where the study names them."""
    if "paper" not in study:
        return []
    papers = tomllib.loads((HERE / "papers.toml").read_text(encoding="utf-8"))["table"]
    (paper,) = (table for table in papers if table["title"] == study["paper"])
    printed = {row["recipe"]: row["paper"] for row in paper["rows"]}
    metrics, digits = paper["metrics"], paper["digits"]
    rows = []
    for recipe, found in result["recipes"].items():
        theirs = printed.get(study.get("stands_for", {}).get(recipe, recipe))
        cells = []
        for place, metric in enumerate(metrics):
            ours = f"{100 * found['metrics'][metric]['mean']:.{digits}f}"
            cells.append(f"{NOTHING if theirs is None else f'{theirs[place]:.{digits}f}'} / {ours}")
        rows.append([f"`{recipe}`", *cells])
    rows += [
        [f"*{others['name']}*", *(others["reported"].get(metric, "") for metric in metrics)]
        for others in study.get("others", ())
    ]
    note = f"In percent: {paper['source']}, {paper['title'].partition(', ')[2]} / ours. {study['differs']}"
    return [_table(["", *map(_named, metrics)], rows), note]


def _improvements(result: dict[str, Any]) -> str:
    """Return what the tasks gain over networks of their own."""
    every = result["relative improvement"]
    metrics = list(every[0]["gains"])
    rows = []
    for each in every:
        gains = [each["gains"][metric] for metric in metrics]
        rows.append([f"`{each['label']}`", *map(_percent, gains)])
    note = (
        f"Paper 5's RI-A and RI-G, in percent, over `{every[0]['against']}`: mean over the tasks, ± standard "
        f"deviation over the seeds, with the 95 % interval of a paired bootstrap over {result['unit']}."
    )
    return f"{_table(['', *(f'RI of {_named(metric)}' for metric in metrics)], rows)}\n\n{note}"


def _percent(gain: dict[str, Any]) -> str:
    mean, low, high = (f"{100 * gain[end]:+.2f}" for end in ("mean_difference", "low", "high"))
    spread = "" if gain["sd"] is None or math.isnan(gain["sd"]) else f" ± {100 * gain['sd']:.2f}"
    return f"{mean}{spread} ({low} to {high})"


def _task_by_task(result: dict[str, Any], metrics: list[str]) -> str:
    """Return a metric in each task, of recipes and floors."""
    rows = [
        [f"`{recipe}`", *(_spread(found["metrics"][metric]) for metric in metrics)]
        for recipe, found in result["recipes"].items()
    ]
    for floor, values in result["floors"].items():
        kind = "" if floor == OPTIMUM else "floor: "
        rows.append([f"*{kind}{floor}*", *(_plain(values[metric]) for metric in metrics)])
    return _table(["", *(metric.rpartition("/")[0] for metric in metrics)], rows)


def _payoffs(result: dict[str, Any]) -> str:
    """Return gain, conflict, norms and cost of the recipes with auxiliary tasks."""
    rows = [
        [
            f"`{each['label']}`",
            _difference(each["gain"]),
            NOTHING if each["conflict_rate"] is None else f"{each['conflict_rate']:.0%}",
            NOTHING if each["norm_ratio"] is None else f"{each['norm_ratio']:.2f}",
            NOTHING if each["step_cost"] is None else f"{each['step_cost']:.2f}x",
        ]
        for each in result["does the auxiliary task pay"]
    ]
    against = result["does the auxiliary task pay"][0]["against"]
    header = [
        "",
        f"gain in {_named(result['metric'])} over `{against}`",
        "in conflict",
        "auxiliary / target norm",
        "step cost",
    ]
    note = (
        "In conflict: steps with a negative cosine of the target's gradient and the auxiliaries' together. "
        "Step cost: median time of a step in these runs, which shared the machine with others; "
        "`python -m benchmarks training` measures it properly."
    )
    return f"{_table(header, rows)}\n\n{note}"


def _against(difference: dict[str, Any]) -> list[str]:
    """Return a difference and its p-values."""
    seeds = difference["over seeds"]
    over = None if seeds is None else _first(seeds["p_adjusted"], seeds["p_value"])
    return [
        _difference(difference),
        _p_value(_first(difference["p_adjusted"], difference["p_value"])),
        _p_value(over),
    ]


def _named(metric: str) -> str:
    return NAMES.get(metric, metric.replace("ndcg", "nDCG"))


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _p_value(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _difference(interval: dict[str, float]) -> str:
    return f"{interval['mean_difference']:+.4f} ({interval['low']:+.4f} to {interval['high']:+.4f})"


def _plain(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _spread(value: dict[str, Any]) -> str:
    spread = value["sd"]
    return f"{value['mean']:.4f}" + ("" if spread is None or math.isnan(spread) else f" ± {spread:.4f}")


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _result_file(name: str) -> Path:
    return HERE / "results" / f"{name}.json"


if __name__ == "__main__":
    main()
