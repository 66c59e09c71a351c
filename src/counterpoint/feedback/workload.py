"""The feedback workload: what the commands and the training loop ask of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from counterpoint.errors import CounterpointError
from counterpoint.feedback.batches import TrainingBatches
from counterpoint.feedback.data.fitted import Fitted
from counterpoint.feedback.data.formats import FORMATS
from counterpoint.feedback.data.layout import find
from counterpoint.feedback.data.prepare import prepare as prepare_source
from counterpoint.feedback.data.store import FORMAT, Store
from counterpoint.feedback.evaluate import evaluate as evaluate_labels
from counterpoint.feedback.export import export as export_networks
from counterpoint.feedback.models.building import network
from counterpoint.feedback.recipe import FeedbackRecipe
from counterpoint.feedback.recommend import FeedbackRecommender
from counterpoint.feedback.schema import Schema
from counterpoint.feedback.scoring import Model
from counterpoint.feedback.separate import SeparateNetworks
from counterpoint.metrics.tables import Evaluated, measured
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import read_json, write_json
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.workload import Capabilities, Exported, Preparation, Recommends, Trainee, Workload

_WEIGHTS = "model.safetensors"


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
    fitted = Fitted.load(preparation.model / "fitted") if preparation.model is not None else None
    shaped_by = [
        FORMAT,
        source.format.name,
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
        made=lambda place: prepare_source(
            source,
            place,
            recipe,
            fitted=fitted,
            on_bad_row=preparation.on_bad_row,
            progress=preparation.progress,
        ),
    )
    prepared.store.require(recipe)
    return prepared


def trainee(recipe: FeedbackRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    schema = replace(store.schema, labels=store.tasks(recipe))
    batches = TrainingBatches(store, recipe)
    torch.manual_seed(recipe.training.seed)
    model: Model = (
        SeparateNetworks(schema, recipe.network, recipe.training.patience)
        if recipe.separate
        else network(schema, recipe.network)
    )

    def validate() -> dict[str, float]:
        evaluated = evaluate_labels(model, recipe, store, "validation", with_floors=False)
        metrics = measured(evaluated.record)
        if isinstance(model, SeparateNetworks):
            # What decides is what is kept: it rises as long as any of the networks gets better.
            best = model.keep_better({task: metrics[f"{task}/auc"] for task in schema.labels})
            metrics["auc"] = sum(best.values()) / len(best)
        return metrics

    def save(folder: Path) -> None:
        if isinstance(model, SeparateNetworks):
            model.save(folder / _WEIGHTS)
        else:
            save_weights(model, folder / _WEIGHTS)
        write_json(folder / "model.json", {"schema": schema.as_dict(), "fitted": store.manifest["fitted"]})
        shutil.copytree(store.path / "fitted", folder / "fitted")

    return Trainee(
        model,
        batches,
        target=schema.labels[0],
        metric="auc",
        validate=validate,
        save=save,
        facts={"training examples": batches.examples, "separate": recipe.separate},
    )


def load(folder: Path, recipe: FeedbackRecipe, store: Store) -> Model:
    """Return the model in ``folder``, ready to score.

    Raises:
        CounterpointError: the folder is incomplete, or the store was prepared with other vocabularies, scales
            or quantiles.
    """
    told = read_json(folder / "model.json")
    if told["fitted"] != store.manifest["fitted"]:
        raise CounterpointError(
            f"{store.path}: prepared with other vocabularies than {folder} was trained on; name the raw "
            "data, which is then prepared with the model's, or the store that it was trained on."
        )
    schema = Schema.from_dict(told["schema"])
    model: Model
    if recipe.separate:
        model = SeparateNetworks.load(folder / _WEIGHTS, schema, recipe.network)
    else:
        model = network(schema, recipe.network)
        load_weights(model, folder / _WEIGHTS)
    return model.eval()


def evaluate(model: Model, recipe: FeedbackRecipe, store: Store, split: str, progress: Progress) -> Evaluated:
    """Return metrics, floors, slices and counts of a split, and the contribution of every user."""
    return evaluate_labels(model, recipe, store, split, progress=progress)


def _export(model: Model, recipe: FeedbackRecipe, store: Store, out: Path) -> Exported:
    """Write a model with its vocabulary for ONNX Runtime, checked there."""
    networks = model.alone() if isinstance(model, SeparateNetworks) else [model]
    return export_networks(networks, store.fitted, out)


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
