"""The feedback workload: what the commands and the training loop ask of it."""

from dataclasses import replace
from pathlib import Path

import torch

from counterpoint.capabilities import Capabilities, Exported, Recommends
from counterpoint.feedback.batches import TrainingBatches
from counterpoint.feedback.data.fitted import Fitted
from counterpoint.feedback.data.formats import FORMATS
from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare as prepare_source
from counterpoint.feedback.data.store import FORMAT, Store
from counterpoint.feedback.evaluate import evaluate
from counterpoint.feedback.export import export
from counterpoint.feedback.models.building import Model, fresh, load, save
from counterpoint.feedback.models.separate import SeparateNetworks
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.feedback.recommend import FeedbackRecommender
from counterpoint.metrics.evaluated import measured
from counterpoint.progress import Progress, named, silent
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.workload import Preparation, Trainee, Workload


def prepare(data: Path, recipe: FeedbackRecipe, preparation: Preparation) -> Prepared[Store]:
    """Return the prepared store of ``data``, made on first use.

    A trained ``model`` brings its vocabularies, scales and quantiles to raw data that it has not seen.
    Without ``out`` the store stands in the cache, under a name that changes with the files and the settings
    that shape it.
    """
    if is_store(data):
        store = Store(data)
        store.require(recipe)
        return Prepared(store, fresh=False)
    source = find(data, preparation.format)
    fitted = Fitted.load(ModelFolder(preparation.model).fitted) if preparation.model is not None else None
    shaped_by = [
        FORMAT,
        preparation.format or source.format.name,
        recipe.data.model_dump(),
        recipe.columns.model_dump(),
        recipe.labels,
        preparation.on_bad_row,
        fitted and fitted.digest,
    ]
    prepared = opened_or_made(
        data,
        source.files,
        shaped_by,
        preparation.out,
        opened=Store,
        made=lambda place: prepare_source(source, place, recipe, preparation, fitted),
    )
    prepared.store.require(recipe)
    return prepared


def trainee(recipe: FeedbackRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    batches = TrainingBatches(store, recipe)
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe, replace(store.schema, labels=store.tasks(recipe)))

    def validate() -> dict[str, float]:
        told = named(progress, "validation")
        metrics = measured(evaluate(model, recipe, store, "validation", told, with_floors=False).record)
        if isinstance(model, SeparateNetworks):
            # What decides is what is kept: it rises as long as any of the networks gets better.
            best = model.keep_better({task: metrics[f"{task}/auc"] for task in model.schema.labels})
            metrics["auc"] = sum(best.values()) / len(best)
        return metrics

    return Trainee(
        model,
        batches,
        target=model.schema.labels[0],
        metric="auc",
        validate=validate,
        save=lambda folder: save(model, store, folder),
        facts={"training examples": batches.examples, "separate": recipe.separate},
    )


def _export(model: Model, recipe: FeedbackRecipe, store: Store, out: Path, progress: Progress) -> Exported:
    """Write a model with its vocabulary for ONNX Runtime, checked there."""
    networks = model.alone() if isinstance(model, SeparateNetworks) else [model]
    return export(networks, store.fitted, out, progress)


def _recommender(model: Model, recipe: FeedbackRecipe, store: Store, folder: Path) -> FeedbackRecommender:
    """Return what ranks items for one user, or for all."""
    return FeedbackRecommender(model, store)


WORKLOAD = Workload(
    name="feedback",
    recipe_type=FeedbackRecipe,
    formats=FORMATS,
    example="gradcraft",
    find=find,
    prepare=prepare,
    trainee=trainee,
    load=load,
    evaluate=evaluate,
    capabilities=Capabilities(
        recommend=Recommends(
            to="users",
            asked=("user", "by"),
            asked_of_all=("by",),
            needed=("user",),
            recommender=_recommender,
        ),
        export=_export,
    ),
)
