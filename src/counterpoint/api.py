"""What the commands do, as functions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from counterpoint import workload
from counterpoint.errors import UsageError
from counterpoint.metrics.tables import Evaluation
from counterpoint.progress import Progress, silent
from counterpoint.runs import recipe as recipes
from counterpoint.runs.folder import Run
from counterpoint.runs.recipe import Recipe
from counterpoint.runs.records import read_log, write_evaluation
from counterpoint.storage.files import write_blocks

if TYPE_CHECKING:
    from counterpoint.training.loop import Fitted


def read_recipe(recipe: str | Path, settings: Sequence[str] = (), seed: int | None = None) -> Recipe:
    """Return a built-in recipe or a TOML file, resolved and checked, its balancing method included.

    Args:
        recipe: a built-in name or the path of a TOML file.
        settings: ``key=value`` pairs that override it.
        seed: overrides ``training.seed``.

    Raises:
        UsageError: there is no such recipe, or a key or value is wrong.
    """
    from counterpoint import balance

    overrides = [*settings, *([] if seed is None else [f"training.seed={seed}"])]
    table = recipes.override(recipes.read_table(recipe), overrides)
    resolved = recipes.validate(table, workload.find(str(table.get("workload"))).recipe_type, recipe)
    options = resolved.balance.options
    try:
        balancer = balance.make(resolved.balance.method, **options)
        balancer.check_tasks(getattr(resolved, "tasks", ()))
        if balancer.is_optimizer and "lr" in options:
            raise ValueError("lr: a recipe has its learning rate in training.learning_rate, not here")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"recipe {recipe}: balance: {str(error.args[0]).rstrip('.')}.") from error
    return resolved


def prepare(
    data: str | Path,
    *,
    format: str | None = None,  # noqa: A002  # the command's own word
    recipe: str | Path = "mtrec",
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    on_bad_row: Literal["stop", "skip"] = "stop",
    progress: Progress = silent,
) -> Any:
    """Return the prepared store of raw logs, made if it is not there yet.

    Args:
        data: the raw folder.
        format: as ``mind``; found by itself.
        recipe: whose tokenizer and data settings shape the store.
        settings: ``key=value`` pairs that override the recipe.
        out: the store's folder; by default one in the cache.
        on_bad_row: stop at the first malformed row, or set them aside.
        progress: told how far the work is.
    """
    return workload.prepare(
        Path(data),
        read_recipe(recipe, settings),
        format_name=format,
        out=None if out is None else Path(out),
        on_bad_row=on_bad_row,
        progress=progress,
        advice="add --recipe {}",
    )


def train(
    recipe: str | Path,
    *,
    data: str | Path,
    out: str | Path | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    format: str | None = None,  # noqa: A002
    on_bad_row: Literal["stop", "skip"] = "stop",
    observe: Callable[[int, float], None] | None = None,
    prepared: Callable[[workload.Store, Sequence[str]], None] | None = None,
    progress: Progress = silent,
) -> Run:
    """Train a recipe on data, which is prepared on first use; return the run.

    Args:
        recipe: a built-in name or a TOML file.
        data: a raw folder or a prepared store.
        out: the run's folder; by default ``runs/NAME-seedN``.
        seed: overrides ``training.seed``.
        settings: ``key=value`` pairs that override the recipe.
        resume: go on with the run in ``out``, with its own recipe; malformed rows stay set aside.
        format: of the raw folder; found by itself.
        on_bad_row: stop at the first malformed row, or set them aside.
        observe: told the step and the metric that decides after each validation; may raise `StopTraining`.
        prepared: given the store, and sentences about its data, before training begins.
        progress: told how far the work is.

    Raises:
        UsageError: the recipe is wrong, or ``out`` holds something already.
        CounterpointError: the data is bad, or a file cannot be written.
    """
    from counterpoint import balance
    from counterpoint.training.loop import fit, make_accelerator
    from counterpoint.training.memory import forget_peak

    resolved = read_recipe(recipe, settings, seed)
    folder = Path(out) if out is not None else Path("runs") / f"{resolved.name}-seed{resolved.training.seed}"
    started = resume and (folder / "run.json").is_file()
    if started:
        run = Run.open(folder)
        resolved = recipe_of(run)
        on_bad_row = "skip" if _on_bad_row(run) == "skip" else on_bad_row
        if run.done:
            return run
    else:
        Run.refuse_used(folder)
    forget_peak()
    accelerator = make_accelerator()
    place = workload.find(resolved.workload)
    with accelerator.main_process_first():
        store = workload.prepare(
            Path(data), resolved, format_name=format, out=None, on_bad_row=on_bad_row, progress=progress
        )
        trainee = place.trainee(resolved, store)
        if observe is not None and trainee.validate is None:
            raise UsageError(f"{data}: no validation split to watch; prepare it with data.validation_days=1.")
        if accelerator.is_main_process and not started:
            # A store that was prepared before has its bad rows behind it, whatever is asked now.
            aside = store.manifest.get("counts", {}).get("bad rows set aside")
            facts = {"path": str(store.path.resolve()), "manifest": store.manifest}
            Run.create(folder, resolved, {**facts, "on_bad_row": "skip" if aside else on_bad_row})
        if accelerator.is_main_process and prepared is not None:
            prepared(store, trainee.notes)
    run = Run.open(folder)
    fitted = fit(
        trainee.model,
        trainee.batches,
        resolved.training,
        balance.make(resolved.balance.method, **resolved.balance.options),
        run,
        target=trainee.target,
        save=trainee.save,
        validate=trainee.validate,
        metric=trainee.metric,
        observe=observe,
        accelerator=accelerator,
        progress=progress,
    )
    if accelerator.is_main_process:
        run.finish(**_facts(run, trainee, fitted))
    return run


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "test",
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a run's best model on a split, floors beside it, and keep the result in the run.

    It is kept as ``evaluation-SPLIT.json`` and, impression by impression, as ``evaluation-SPLIT.parquet``.

    Args:
        run: the run's folder.
        data: a raw folder or a prepared store; by default the run's own.
        split: ``train``, ``validation`` or ``test``.
        progress: told how far the work is.
    """
    opened, resolved, model, store = _opened(run, data, progress)
    place = workload.find(resolved.workload)
    evaluated = place.evaluate(model, resolved, store, split, progress)
    evaluated.record["trained"] = opened.done
    evaluated.record["data"] = {
        "store": str(store.path.resolve()),
        "fingerprint": store.manifest.get("fingerprints", {}).get(split),
        "simulated": _simulated(store.manifest),
    }
    write_evaluation(opened.path, evaluated)
    return evaluated.record


def submit(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    out: str | Path = "prediction.zip",
    progress: Progress = silent,
) -> Any:
    """Write a submission of a run's predictions and read it back.

    Args:
        run: the run's folder.
        data: a raw folder or a prepared store; by default the run's own.
        split: by default the unlabelled one if there is one, else ``test``.
        out: the zip.
        progress: told how far the work is.
    """
    _, resolved, model, store = _opened(run, data, progress)
    return workload.find(resolved.workload).submit(model, resolved, store, split, Path(out), progress)


def export(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> Any:
    """Write a run's best model with its vocabulary for ONNX Runtime, where it must score alike.

    Args:
        run: the run's folder.
        out: the folder; an older export there is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        progress: told how far the work is.
    """
    _, resolved, model, store = _opened(run, data, progress)
    return workload.find(resolved.workload).export(model, resolved, store, Path(out))


def load(run: str | Path, *, data: str | Path | None = None) -> Any:
    """Return a trained recommender: ``counterpoint.load(run).recommend(history=[...])``.

    Of a run of sentences it is an encoder: ``counterpoint.load(run).similarity("…", "…")``.

    Args:
        run: the run's folder.
        data: where articles are looked up; by default the run's own store. A run of sentences needs none.
    """
    opened = Run.open(Path(run))
    resolved = recipe_of(opened)
    place = workload.find(resolved.workload)
    store = None if workload.answers_alone(place) else _store(opened, resolved, data, silent)
    return place.recommender(place.load(opened.model, resolved, store), resolved, store, opened.model)


def recommend_all(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    top: int = 10,
    progress: Progress = silent,
    **options: Any,
) -> int:
    """Write the best articles or items for everybody in the data as one Parquet file; return its rows.

    Args:
        run: the run's folder.
        out: the file; an older one is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        top: how many for each.
        progress: told how far the work is.
        options: those of the workload's recommender: ``by``, the label that ranks.
    """
    blocks = load(run, data=data).recommend_all(top=top, progress=progress, **options)
    return write_blocks(Path(out), blocks)


def embed(
    run: str | Path,
    file: str | Path,
    *,
    out: str | Path,
    column: str = "sentence",
    tell: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> int:
    """Write the vector of every sentence of a file as Parquet or .npy; return how many there are.

    Args:
        run: the folder of a run of the workload sentences.
        file: text with a sentence on each line, or CSV, TSV or JSON lines.
        out: the file; an older one is replaced.
        column: that has the sentences, where there are columns.
        tell: given a sentence about how many were cut, if any were.
        progress: told how far the work is.

    Raises:
        UsageError: the run is of another workload.
    """
    kind = Run.open(Path(run)).facts["workload"]
    if kind != "sentences":
        raise UsageError(f"{run}: a run of {kind}, which makes no sentence vectors; give one of sentences.")
    encoder = load(run)
    written: int = encoder.embed_file(Path(file), Path(out), column=column, tell=tell, progress=progress)
    return written


def report(runs: Sequence[str | Path], *, out: str | Path | None = None) -> Path:
    """Write one page about one run or several; by default ``report.html`` in the first run's folder."""
    from counterpoint.report.document import write_report

    folders = [Run.open(Path(run)).path for run in runs]
    return write_report(folders, Path(out) if out is not None else folders[0] / "report.html")


def _simulated(manifest: dict[str, Any]) -> str | None:
    """Return what of the data is simulated, if anything is."""
    if manifest.get("simulated"):
        return "data"
    return "articles" if manifest.get("simulated articles") else None


def _facts(run: Run, trainee: workload.Trainee, fitted: "Fitted") -> dict[str, Any]:
    """Return what to note about a training: what it cost, what it reached, what it was given."""
    from counterpoint.training.memory import peak_megabytes

    parameters = list(trainee.model.parameters())
    pace = read_log(run.path / "metrics.jsonl").get("seconds_per_step", {}).get("")
    return {
        "target": trainee.target,
        "best": fitted.best,
        "best step": fitted.best_step,
        "seconds": fitted.seconds,
        "seconds per step": None if pace is None else float(np.median(pace.values)),
        "peak megabytes": peak_megabytes(),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameters trained": sum(each.numel() for each in parameters if each.requires_grad),
        **trainee.facts,
    }


def _opened(run: str | Path, data: str | Path | None, progress: Progress) -> tuple[Run, Recipe, Any, Any]:
    """Return a run with its recipe, its model and the store."""
    opened = Run.open(Path(run))
    resolved = recipe_of(opened)
    store = _store(opened, resolved, data, progress)
    return opened, resolved, workload.find(resolved.workload).load(opened.model, resolved, store), store


def _store(run: Run, recipe: Recipe, data: str | Path | None, progress: Progress) -> Any:
    """Return the store of a run, or of other data, where malformed rows are what they were in training."""
    where = Path(data) if data is not None else Path(run.facts["store"]["path"])
    if data is None and not where.exists():
        raise UsageError(f"{run.path}: its prepared store {where} is gone; name the data with --data.")
    return workload.find(recipe.workload).prepare(
        where,
        recipe,
        format_name=None,
        out=None,
        on_bad_row=_on_bad_row(run),
        progress=progress,
        model=run.model,
    )


def _on_bad_row(run: Run) -> Literal["stop", "skip"]:
    """Return what became of malformed rows in a run's training; the first runs did not note it."""
    return "skip" if run.facts["store"].get("on_bad_row") == "skip" else "stop"


def recipe_of(run: Run) -> Recipe:
    """Return the recipe that a run was made with; keys that it did not know yet have their defaults."""
    table = run.recipe_table()
    return recipes.validate(
        table, workload.find(str(table.get("workload"))).recipe_type, run.path / "recipe.toml"
    )
