"""What the commands do, as functions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from counterpoint.workload import (
    Exported,
    OnBadRow,
    Preparation,
    Question,
    Recommender,
    Store,
    Submission,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import nn

    from counterpoint.storage.prepared import Prepared
    from counterpoint.training.loop import Fitted
    from counterpoint.workload import Capabilities, Recommends


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
    resolved = workload.resolved(recipes.override(recipes.read_table(recipe), overrides), recipe)
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
    on_bad_row: OnBadRow = "stop",
    progress: Progress = silent,
) -> Store:
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
    place = None if out is None else Path(out)
    preparation = Preparation(format, place, on_bad_row, progress)
    return workload.prepare(Path(data), read_recipe(recipe, settings), preparation).store


def train(
    recipe: str | Path,
    *,
    data: str | Path,
    out: str | Path | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    format: str | None = None,  # noqa: A002
    on_bad_row: OnBadRow = "stop",
    observe: Callable[[int, float], None] | None = None,
    prepared: "Callable[[Prepared[Store], Sequence[str]], None] | None" = None,
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
        preparation = Preparation(format, on_bad_row=on_bad_row, progress=progress)
        found = workload.prepare(Path(data), resolved, preparation)
        store = found.store
        trainee = place.trainee(resolved, store, progress)
        if observe is not None and trainee.validate is None:
            raise UsageError(f"{data}: no validation split to watch; prepare it with data.validation_days=1.")
        if accelerator.is_main_process and not started:
            # A store that was prepared before has its bad rows behind it, whatever is asked now.
            aside = store.manifest.get("counts", {}).get("bad rows set aside")
            facts = {"path": str(store.path.resolve()), "manifest": store.manifest}
            Run.create(folder, resolved, {**facts, "on_bad_row": "skip" if aside else on_bad_row})
        if accelerator.is_main_process and prepared is not None:
            prepared(found, trainee.notes)
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
) -> Submission:
    """Write a submission of a run's predictions and read it back.

    Args:
        run: the run's folder.
        data: a raw folder or a prepared store; by default the run's own.
        split: by default the unlabelled one if there is one, else ``test``.
        out: the zip.
        progress: told how far the work is.
    """
    write = _able(run).submit
    if write is None:
        raise _refused(run, "submit")
    _, resolved, model, store = _opened(run, data, progress)
    return write(model, resolved, store, split, Path(out), progress)


def export(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write a run's best model with its vocabulary for ONNX Runtime, where it must score alike.

    Args:
        run: the run's folder.
        out: the folder; an older export there is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        progress: told how far the work is.
    """
    write = _able(run).export
    if write is None:
        raise _refused(run, "export")
    _, resolved, model, store = _opened(run, data, progress)
    return write(model, resolved, store, Path(out))


def load(run: str | Path, *, data: str | Path | None = None) -> Any:
    """Return a trained recommender: ``counterpoint.load(run).recommend(history=[...])``.

    Of a run of sentences it is an encoder: ``counterpoint.load(run).similarity("…", "…")``.

    Args:
        run: the run's folder.
        data: where articles are looked up; by default the run's own store. A run of sentences needs none.
    """
    embed = _able(run).embed
    if embed is None:
        return _recommender(run, data, silent)
    opened = Run.open(Path(run))
    return embed(opened.model, recipe_of(opened))


def recommend(
    run: str | Path,
    question: Question,
    *,
    data: str | Path | None = None,
    top: int = 10,
    progress: Progress = silent,
) -> "Sequence[DataclassInstance]":
    """Return the best articles or items for somebody, best first; each says itself as a line.

    >>> counterpoint.api.recommend("runs/metabalance", Question(user="1011"), top=5)  # doctest: +SKIP

    Args:
        run: the run's folder.
        question: for whom.
        data: a raw folder or a prepared store; by default the run's own.
        top: how many.
        progress: told how far the work is.

    Raises:
        UsageError: the run recommends nothing, or the question does not suit it.
    """
    return _recommender(run, data, progress, question).answers(question, top=top)


def require_answerable(run: str | Path, question: Question, *, everybody: bool = False) -> None:
    """Refuse a question that a run cannot answer, before anything is loaded.

    Raises:
        UsageError: the run recommends nothing, or the question says what it does not take or lacks what it
            needs.
    """
    _recommends(run).require(question, everybody=everybody)


def recommend_all(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    top: int = 10,
    by: str | None = None,
    progress: Progress = silent,
) -> int:
    """Write the best articles or items for everybody in the data as one Parquet file; return its rows.

    Args:
        run: the run's folder.
        out: the file; an older one is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        top: how many for each.
        by: the label that ranks, where there are several; by default the first.
        progress: told how far the work is.

    Raises:
        UsageError: the run recommends nothing, or ranks by nothing but its target.
    """
    question = Question(by=by)
    recommender = _recommender(run, data, progress, question, everybody=True)
    return write_blocks(Path(out), recommender.answers_for_all(question, top=top, progress=progress))


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
    make = _able(run).embed
    if make is None:
        raise _refused(run, "embed")
    opened = Run.open(Path(run))
    embedder = make(opened.model, recipe_of(opened))
    return embedder.embed_file(Path(file), Path(out), column=column, tell=tell, progress=progress)


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


def _able(run: str | Path) -> "Capabilities[nn.Module, Recipe, Store]":
    """Return what a run's models can do."""
    return workload.find(_workload(run)).capabilities


def _refused(run: str | Path, capability: str) -> UsageError:
    """Return why a run is of no use for what its models cannot do."""
    return workload.refusal(Path(run), _workload(run), capability)


def _workload(run: str | Path) -> str:
    return str(Run.open(Path(run)).facts["workload"])


def _recommends(run: str | Path) -> "Recommends[nn.Module, Recipe, Store]":
    """Return how a run recommends, or refuse one that does not."""
    able = _able(run).recommend
    if able is None:
        raise _refused(run, "recommend")
    return able


def _recommender(
    run: str | Path,
    data: str | Path | None,
    progress: Progress,
    question: Question | None = None,
    *,
    everybody: bool = False,
) -> Recommender:
    """Return what answers for a run; refuse a question that does not suit it before anything is loaded."""
    able = _recommends(run)
    if question is not None:
        able.require(question, everybody=everybody)
    opened, resolved, model, store = _opened(run, data, progress)
    return able.recommender(model, resolved, store, opened.model)


def _opened(
    run: str | Path, data: str | Path | None, progress: Progress
) -> "tuple[Run, Recipe, nn.Module, Store]":
    """Return a run with its recipe, its model and the store."""
    opened = Run.open(Path(run))
    resolved = recipe_of(opened)
    store = _store(opened, resolved, data, progress)
    return opened, resolved, workload.find(resolved.workload).load(opened.model, resolved, store), store


def _store(run: Run, recipe: Recipe, data: str | Path | None, progress: Progress) -> Store:
    """Return the store of a run, or of other data, where malformed rows are what they were in training."""
    where = Path(data) if data is not None else Path(run.facts["store"]["path"])
    if data is None and not where.exists():
        raise UsageError(
            f"{run.path}: its prepared store {where} is gone; say where the data are now, raw or prepared."
        )
    preparation = Preparation(on_bad_row=_on_bad_row(run), progress=progress, model=run.model)
    return workload.find(recipe.workload).prepare(where, recipe, preparation).store


def _on_bad_row(run: Run) -> OnBadRow:
    """Return what became of malformed rows in a run's training; the first runs did not note it."""
    return "skip" if run.facts["store"].get("on_bad_row") == "skip" else "stop"


def recipe_of(run: Run) -> Recipe:
    """Return the recipe that a run was made with; keys that it did not know yet have their defaults."""
    return workload.resolved(run.recipe_table(), run.path / "recipe.toml")
