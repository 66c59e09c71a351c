"""The behaviors workload: what the commands and the training loop ask of it."""

import hashlib
import json
from pathlib import Path

import torch

from counterpoint.behaviors.batches import TrainingBatches
from counterpoint.behaviors.data.formats import FORMATS
from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare as prepare_source
from counterpoint.behaviors.data.store import FORMAT, Store
from counterpoint.behaviors.evaluate import evaluate as evaluate_ranking
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.recommend import BehaviorsRecommender
from counterpoint.capabilities import Capabilities, Recommends
from counterpoint.errors import CounterpointError
from counterpoint.metrics.evaluated import Evaluated, measured
from counterpoint.progress import Progress, silent
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.files import read_json, write_json
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.workload import Preparation, Trainee, Workload


def prepare(data: Path, recipe: BehaviorsRecipe, preparation: Preparation) -> Prepared[Store]:
    """Return the prepared store of ``data``, made on first use; a trained ``model`` shapes nothing here.

    Without ``out`` it stands in the cache, under a name that changes with the files and the settings that
    shape a store.
    """
    if is_store(data):
        store = Store(data)
        store.require(recipe)
        return Prepared(store, fresh=False)
    source = find(data, preparation.format)
    return opened_or_made(
        data,
        source.files,
        [FORMAT, source.format.name, recipe.data.model_dump(), recipe.tasks, preparation.on_bad_row],
        preparation.out,
        opened=Store,
        made=lambda place: prepare_source(
            source,
            place,
            recipe.data,
            recipe.tasks,
            on_bad_row=preparation.on_bad_row,
            progress=preparation.progress,
        ),
    )


def trainee(recipe: BehaviorsRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    torch.manual_seed(recipe.training.seed)
    model = BehaviorsNetwork(store.user_count, store.item_count, recipe.tasks, recipe.network)
    batches = TrainingBatches(store, recipe)

    def validate() -> dict[str, float]:
        most = recipe.ranking.validation_users
        evaluated = evaluate_ranking(model, recipe, store, "validation", with_floors=False, most_users=most)
        return measured(evaluated.record)

    def save(folder: Path) -> None:
        save_weights(model, ModelFolder(folder).weights)
        write_json(ModelFolder(folder).description, _identity(store))

    return Trainee(
        model,
        batches,
        target=recipe.target,
        metric="ndcg@10",
        validate=validate if store.manifest["splits"].get("validation") else None,
        save=save,
        facts={"training examples": batches.examples},
    )


def load(folder: Path, recipe: BehaviorsRecipe, store: Store) -> BehaviorsNetwork:
    """Return the model in ``folder``, ready to score.

    Raises:
        CounterpointError: the folder is incomplete, or the store has other users or items: its vectors are
            theirs alone.
    """
    if read_json(ModelFolder(folder).description) != _identity(store):
        raise CounterpointError(
            f"{store.path}: its users and items are not those that {folder} has vectors of; use the store "
            "that the model was trained on, or train again."
        )
    model = BehaviorsNetwork(store.user_count, store.item_count, recipe.tasks, recipe.network)
    load_weights(model, ModelFolder(folder).weights)
    return model.eval()


def evaluate(
    model: BehaviorsNetwork, recipe: BehaviorsRecipe, store: Store, split: str, progress: Progress
) -> Evaluated:
    """Return metrics, floors, slices and counts of a split, and the metrics of every user."""
    most = recipe.ranking.test_users if split == "test" else None
    return evaluate_ranking(model, recipe, store, split, most_users=most, progress=progress)


def _recommender(
    model: BehaviorsNetwork, recipe: BehaviorsRecipe, store: Store, folder: Path
) -> BehaviorsRecommender:
    """Return what ranks items for one user, or for all."""
    return BehaviorsRecommender(model, recipe, store)


def _identity(store: Store) -> dict[str, str | int]:
    """Return what tells these users and items, in this order, from any others."""
    digest = hashlib.sha256()
    for ids in (store.user_ids, store.item_ids):
        digest.update(json.dumps(ids.to_list()).encode())
    return {"users": store.user_count, "items": store.item_count, "ids": digest.hexdigest()[:16]}


WORKLOAD = Workload(
    name="behaviors",
    recipe_type=BehaviorsRecipe,
    formats=FORMATS,
    example="metabalance",
    find=find,
    prepare=prepare,
    trainee=trainee,
    load=load,
    evaluate=evaluate,
    capabilities=Capabilities(
        recommend=Recommends(to="users", asked=("user",), needed=("user",), recommender=_recommender)
    ),
)
