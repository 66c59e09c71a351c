"""Searching a recipe's settings: trials are ordinary runs, judged by validation alone."""

import itertools
import json
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint import api, workload
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.progress import Progress, named, silent
from counterpoint.reporting.grids import Grid
from counterpoint.runs import recipe as recipes
from counterpoint.runs.folder import Run, data_difference, recipe_difference
from counterpoint.runs.recipe import Range, Recipe
from counterpoint.storage.files import new_file
from counterpoint.workload import OnBadRow, Preparation

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_SHOWN = 10
_EXAMPLE = '"training.learning_rate" = {low = 1e-5, high = 1e-3, log = true}'


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        value: the best validation metric.
        settings: the searched keys of the trial that reached it.
        run: its folder.
        recipe: the file with them filled in, for `train`.
        trials: the best trials as a table.
    """

    value: float
    settings: dict[str, Any]
    run: Path
    recipe: Path
    trials: Grid


def tune(
    recipe: str | Path,
    *,
    data: str | Path,
    trials: int = 20,
    settings: Sequence[str] = (),
    seed: int = 0,
    out: str | Path | None = None,
    format: str | None = None,  # noqa: A002  # the command's own word
    on_bad_row: OnBadRow = "stop",
    progress: Progress = silent,
) -> Tuned:
    """Search the ranges of a recipe's ``[tune]`` section for the best validation metric.

        >>> counterpoint.tune("mtrec", data="MINDsmall", trials=20).recipe  # doctest: +SKIP

    Settings are proposed by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011); where there
    are choices alone, every combination of them is tried once, in random order. A trial whose
    best validation so far is below the median of the others at that step is stopped. Each is a run in
    ``out/trial-NNNN``; the search is kept in ``out/study.db``, and the same call goes on with one that was
    interrupted, its unfinished trials included. The test split is never looked at.

    Args:
        recipe: a built-in name or a TOML file with a ``[tune]`` section.
        data: a raw folder or a prepared store.
        trials: how many, those of an earlier call included.
        settings: ``key=value`` pairs that override the recipe, its ranges among them.
        seed: of what is proposed; the trainings have the recipe's own.
        out: the folder; by default ``runs/tune-NAME``.
        format: of the raw folder; found by itself.
        on_bad_row: stop at the first malformed row, or set them aside.
        progress: told how far the work is.

    Raises:
        UsageError: the recipe has nothing to tune, a key or value is wrong, or ``out`` is another search.
        CounterpointError: optuna is not installed, the data is bad, or no trial could be trained.
    """
    optuna = _optuna()
    if trials < 1:
        raise UsageError(f"--trials {trials}: there must be at least one.")
    resolved = api.read_recipe(recipe, settings)
    _refuse_impossible(recipe, resolved, settings)
    folder = Path(out) if out is not None else Path("runs") / f"tune-{resolved.name}"
    preparation = Preparation(format, on_bad_row=on_bad_row, progress=progress)
    store = workload.prepare(Path(data), resolved, preparation).store
    study = _study(optuna, folder, resolved, store.manifest)
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    combinations = _combinations(resolved, seed)
    if combinations is not None:
        trials = min(trials, len(combinations))
        for each in combinations[:trials]:
            study.enqueue_trial(each, skip_if_exists=True)
    while (number := _count(study)) < trials:
        trial = study.ask()
        values = {key: _suggested(trial, key, choices) for key, choices in resolved.tune.items()}
        told = named(progress, f"trial {number + 1} of {trials}")
        _try(study, trial, recipe, [*settings, *_assignments(values)], store.path, folder, told)
    return _found(study, resolved, recipe, settings, folder)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise CounterpointError("Tuning needs one more package: pip install 'counterpoint[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _refuse_impossible(recipe: str | Path, resolved: Recipe, settings: Sequence[str]) -> None:
    """Refuse a recipe without ranges, and one with an end or a choice that is no valid setting."""
    if not resolved.tune:
        raise UsageError(
            f"recipe {recipe}: nothing to tune; give it a section [tune], for example with {_EXAMPLE}."
        )
    for key, choices in resolved.tune.items():
        ends = [choices.low, choices.high] if isinstance(choices, Range) else choices
        for value in ends:
            api.read_recipe(recipe, [*settings, *_assignments({key: value})])


def _combinations(recipe: Recipe, seed: int) -> list[dict[str, str]] | None:
    """Return all that can be tried, in random order; nothing where a key has a range."""
    keys, choices = recipe.tune.keys(), recipe.tune.values()
    if any(isinstance(each, Range) for each in choices):
        return None
    grid = itertools.product(*(_by_text(each) for each in choices if not isinstance(each, Range)))
    combinations = [dict(zip(keys, each, strict=True)) for each in grid]
    random.Random(seed).shuffle(combinations)
    return combinations


def _by_text(choices: list[Any]) -> dict[str, Any]:
    """Return choices, which may be lists, by the texts that the search remembers."""
    return {json.dumps(choice): choice for choice in choices}


def _study(optuna: Any, folder: Path, recipe: Recipe, manifest: Mapping[str, Any]) -> "Study":
    """Return the search in ``folder``, begun if there is none; trials that were interrupted come again.

    Raises:
        UsageError: it is a search of another recipe or other data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study: Study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name="tune",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    ours = tomllib.loads(recipes.to_toml(recipe))
    kept = study.user_attrs
    if not kept:
        study.set_user_attr("recipe", ours)
        study.set_user_attr("manifest", dict(manifest))
    else:
        difference = recipe_difference(kept["recipe"], ours) or data_difference(kept["manifest"], manifest)
        if difference is not None:
            raise UsageError(
                f"{folder}: a search with {difference}; choose another --out, or remove that folder."
            )
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"continues": trial.number})
    return study


def _count(study: "Study") -> int:
    """Return how many trials came to an end of their own: by finishing, by being stopped or by diverging."""
    return sum(
        trial.state.name in {"COMPLETE", "PRUNED"} or trial.user_attrs.get("diverged", False)
        for trial in study.trials
    )


def _suggested(trial: "Trial", key: str, choices: Range | list[Any]) -> Any:
    """Return a value for a key: a number of its range, or one of its choices."""
    if not isinstance(choices, Range):
        written = _by_text(choices)
        return written[trial.suggest_categorical(key, list(written))]
    low, high, step = choices.low, choices.high, choices.step
    if all(isinstance(number, int) for number in (low, high, 1 if step is None else step)):
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=choices.log)
    return trial.suggest_float(key, low, high, step=step, log=choices.log)


def _assignments(values: Mapping[str, Any]) -> list[str]:
    """Return settings as ``--set`` takes them; what JSON writes of plain values is TOML too."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _try(
    study: "Study",
    trial: "Trial",
    recipe: str | Path,
    settings: Sequence[str],
    store: Path,
    folder: Path,
    progress: Progress,
) -> None:
    """Train a trial's recipe and tell the search what became of it."""
    from optuna.trial import TrialState

    from counterpoint.training.loop import DivergedError, StopTraining

    out = _folder(folder, trial.number)
    before = _folder(folder, trial.user_attrs.get("continues", trial.number))
    if before.exists() and not out.exists():
        before.rename(out)

    def observe(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise StopTraining

    try:
        run = api.train(
            recipe, data=store, out=out, settings=settings, resume=True, observe=observe, progress=progress
        )
    except StopTraining:
        Run.open(out).note(status="stopped: below the median of the search")
        study.tell(trial, state=TrialState.PRUNED)
    except DivergedError as error:
        Run.open(out).note(status=f"diverged: {error}")
        trial.set_user_attr("diverged", True)
        study.tell(trial, state=TrialState.FAIL)
    else:
        best = run.facts["best"]
        if best is None:
            trial.set_user_attr("diverged", True)
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, best)


def _folder(folder: Path, number: int) -> Path:
    return folder / f"trial-{number:04}"


def _found(
    study: "Study", resolved: Recipe, recipe: str | Path, settings: Sequence[str], folder: Path
) -> Tuned:
    """Write the best recipe and return it with the best trials."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not finished:
        raise CounterpointError(
            f"{folder}: no trial came to a validation metric; see the runs there, and narrow [tune]."
        )
    best = study.best_trial
    values = _values(best, resolved)
    chosen = api.read_recipe(recipe, [*settings, *_assignments(values)]).model_copy(
        update={
            "name": f"{resolved.name}-tuned",
            "summary": f"{resolved.name} with the best settings of {_count(study)} trials",
            "tune": {},
        }
    )
    file = folder / "best.toml"
    with new_file(file) as path:
        path.write_text(recipes.to_toml(chosen), encoding="utf-8")
    assert best.value is not None
    return Tuned(best.value, values, _folder(folder, best.number), file, _table(study, resolved))


def _values(trial: "FrozenTrial", recipe: Recipe) -> dict[str, Any]:
    """Return a trial's settings as they were before the search remembered them."""
    return {
        key: value if isinstance(recipe.tune[key], Range) else json.loads(value)
        for key, value in trial.params.items()
    }


def _table(study: "Study", recipe: Recipe) -> Grid:
    """Return the best trials, the best first, those that were stopped among them."""
    ended = [trial for trial in study.trials if trial.state.name in {"COMPLETE", "PRUNED"}]
    ranked = sorted(((_reached(trial), trial) for trial in ended), key=lambda pair: pair[0], reverse=True)
    rows = []
    for value, trial in ranked[:_SHOWN]:
        values = _values(trial, recipe)
        written = [_written(values.get(key)) for key in recipe.tune]
        stopped = "" if trial.state.name == "COMPLETE" else " (stopped)"
        rows.append((f"trial-{trial.number:04}{stopped}", [f"{value:.4f}", *written], frozenset[int]()))
    title = f"The best of {_count(study)} trials"
    return Grid(
        title, ["validation", *recipe.tune], rows, ["Validation alone: the test split was not looked at."]
    )


def _reached(trial: "FrozenTrial") -> float:
    """Return the best validation metric of a trial, be it stopped or not."""
    return float(max([*trial.intermediate_values.values(), *(trial.values or [])]))


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
