"""What the commands do, as functions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint import workload
from counterpoint.capabilities import Exported, Question, Submission
from counterpoint.errors import UsageError
from counterpoint.metrics.evaluated import Evaluation
from counterpoint.opened_run import OpenedRun
from counterpoint.progress import Progress, silent
from counterpoint.runs import recipe as recipes
from counterpoint.runs.folder import Run, RunFolder
from counterpoint.runs.recipe import Recipe
from counterpoint.runs.records import read_log, write_evaluation
from counterpoint.storage.files import write_blocks
from counterpoint.workload import OnBadRow, Preparation, Store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from counterpoint.storage.prepared import Prepared
    from counterpoint.training.loop import Fitted


_NOTHING_SAID = Question()


def read_recipe(recipe: str | Path, settings: Sequence[str] = (), seed: int | None = None) -> Recipe:
    """Return a built-in recipe or a TOML file, resolved and checked, its balancing method included.

        >>> counterpoint.read_recipe("mtrec", ["training.epochs=1"]).training.epochs  # doctest: +SKIP
        1

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

        >>> counterpoint.prepare("MINDsmall", out="stores/mind").path  # doctest: +SKIP

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

        >>> run = counterpoint.train("mtrec", data="MINDsmall", out="runs/mtrec")  # doctest: +SKIP

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
    started = resume and RunFolder(folder).begun
    if started:
        begun = OpenedRun(folder)
        resolved = begun.recipe
        on_bad_row = "skip" if begun.on_bad_row == "skip" else on_bad_row
        if begun.run.done:
            return begun.run
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
    data: str | Path | Store | None = None,
    split: str = "test",
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a run's best model on a split, floors beside it, and keep the result in the run.

        >>> counterpoint.evaluate("runs/mtrec", split="test")["metrics"]["auc"]  # doctest: +SKIP

    It is kept as ``evaluation-SPLIT.json`` and, impression by impression, as ``evaluation-SPLIT.parquet``.

    Args:
        run: the run's folder.
        data: a raw folder or a prepared store, a folder or opened already; by default the run's own.
        split: ``train``, ``validation`` or ``test``.
        progress: told how far the work is.
    """
    trained = OpenedRun(run)
    model, store = trained.opened(data, progress)
    evaluated = trained.workload.evaluate(model, trained.recipe, store, split, progress)
    evaluated.record["trained"] = trained.run.done
    evaluated.record["data"] = {
        "store": str(store.path.resolve()),
        "fingerprint": store.manifest.get("fingerprints", {}).get(split),
        "simulated": _simulated(store.manifest),
    }
    write_evaluation(trained.run.path, evaluated)
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

        >>> counterpoint.submit("runs/mtrec", out="prediction.zip").metrics  # doctest: +SKIP

    Args:
        run: the run's folder.
        data: a raw folder or a prepared store; by default the run's own.
        split: by default the unlabelled one if there is one, else ``test``.
        out: the zip.
        progress: told how far the work is.
    """
    trained = OpenedRun(run)
    submit = trained.submit
    model, store = trained.opened(data, progress)
    return submit(model, trained.recipe, store, split, Path(out), progress)


def export(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write a run's best model with its vocabulary for ONNX Runtime, where it must score alike.

        >>> counterpoint.export("runs/gradcraft", out="gradcraft-onnx").difference  # doctest: +SKIP

    Args:
        run: the run's folder.
        out: the folder; an older export there is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        progress: told how far the work is.
    """
    trained = OpenedRun(run)
    export = trained.export
    model, store = trained.opened(data, progress)
    return export(model, trained.recipe, store, Path(out), progress)


def load(run: str | Path, *, data: str | Path | None = None) -> Any:
    """Return a trained recommender: ``counterpoint.load(run).recommend(history=[...])``.

        >>> counterpoint.load("runs/mtrec").recommend(history=["N12", "N40"], top=5)  # doctest: +SKIP

    Of a run of sentences it is an encoder: ``counterpoint.load(run).similarity("…", "…")``.

    Args:
        run: the run's folder.
        data: where articles are looked up; by default the run's own store. A run of sentences needs none.
    """
    trained = OpenedRun(run)
    return trained.embedder() if trained.embeds else trained.recommender(data)


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
    trained = OpenedRun(run)
    trained.recommends.require(question)
    return trained.recommender(data, progress).answers(question, top=top, progress=progress)


def recommend_all(
    run: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    top: int = 10,
    question: Question = _NOTHING_SAID,
    progress: Progress = silent,
) -> int:
    """Write the best articles or items for everybody in the data as one Parquet file; return its rows.

        >>> counterpoint.api.recommend_all("runs/mtrec", out="recommendations.parquet")  # doctest: +SKIP

    Args:
        run: the run's folder.
        out: the file; an older one is replaced.
        data: a raw folder or a prepared store; by default the run's own.
        top: how many for each.
        question: what is the same for everybody: ``by``, the label that ranks.
        progress: told how far the work is.

    Raises:
        UsageError: the run recommends nothing, or the question is for one reader or user.
    """
    trained = OpenedRun(run)
    trained.recommends.require(question, everybody=True)
    blocks = trained.recommender(data, progress).answers_for_all(question, top=top, progress=progress)
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

        >>> counterpoint.embed("runs/sentences", "questions.txt", out="vectors.parquet")  # doctest: +SKIP

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
    embedder = OpenedRun(run).embedder()
    return embedder.embed_file(Path(file), Path(out), column=column, tell=tell, progress=progress)


def report(runs: Sequence[str | Path], *, out: str | Path | None = None) -> Path:
    """Write one page about one run or several; by default ``report.html`` in the first run's folder.

    >>> counterpoint.report(["runs/bert", "runs/mtrec"], out="report.html")  # doctest: +SKIP
    """
    from counterpoint.reporting.document import write_report

    folders = [Run.open(Path(run)).path for run in runs]
    return write_report(folders, Path(out) if out is not None else RunFolder(folders[0]).report)


def _simulated(manifest: dict[str, Any]) -> str | None:
    """Return what of the data is simulated, if anything is."""
    if manifest.get("simulated"):
        return "data"
    return "articles" if manifest.get("simulated articles") else None


def _facts(run: Run, trainee: workload.Trainee, fitted: "Fitted") -> dict[str, Any]:
    """Return what to note about a training: what it cost, what it reached, what it was given."""
    from counterpoint.training.memory import peak_megabytes

    parameters = list(trainee.model.parameters())
    pace = read_log(run.files.metrics).get("seconds_per_step", {}).get("")
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
