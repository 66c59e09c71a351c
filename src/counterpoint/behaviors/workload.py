"""The behaviors workload: what the commands and the training loop ask of it."""

from pathlib import Path

import torch

from counterpoint.behaviors.batches import TrainingBatches
from counterpoint.behaviors.data.formats import FORMATS
from counterpoint.behaviors.data.layout import find
from counterpoint.behaviors.data.prepare import prepare as prepare_source
from counterpoint.behaviors.data.store import FORMAT, Store
from counterpoint.behaviors.evaluate import evaluate as evaluate_ranking
from counterpoint.behaviors.model import BehaviorsNetwork, fresh, load, save
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.recommend import BehaviorsRecommender
from counterpoint.capabilities import Capabilities, Recommends
from counterpoint.metrics.evaluated import Evaluated, measured
from counterpoint.progress import Progress, named, silent
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
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
        made=lambda place: prepare_source(source, place, recipe, preparation),
    )


def trainee(recipe: BehaviorsRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe, store)
    batches = TrainingBatches(store, recipe)

    def validate() -> dict[str, float]:
        evaluated = evaluate_ranking(
            model,
            recipe,
            store,
            "validation",
            with_floors=False,
            most_users=recipe.ranking.validation_users,
            progress=named(progress, "validation"),
        )
        return measured(evaluated.record)

    return Trainee(
        model,
        batches,
        target=recipe.target,
        metric="ndcg@10",
        validate=validate if store.manifest["splits"].get("validation") else None,
        save=lambda folder: save(model, store, folder),
        facts={"training examples": batches.examples},
    )


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
