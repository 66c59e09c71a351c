"""The news workload: what the commands and the training loop ask of it."""

from pathlib import Path

import torch

from counterpoint.capabilities import Capabilities, Recommends, Submission
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.evaluated import Evaluated, measured
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.formats import FORMATS
from counterpoint.news.data.layout import find
from counterpoint.news.data.prepare import prepare as prepare_source
from counterpoint.news.data.prepare import require_made_for
from counterpoint.news.data.store import FORMAT, Store
from counterpoint.news.evaluate import evaluate as evaluate_ranking
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.building import fresh, load, save
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.models.texts import frozen_states, tokenizer_of, word_vectors
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.recommend import NewsRecommender
from counterpoint.news.submit import write_submission
from counterpoint.progress import Progress, named, silent
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.workload import Preparation, Trainee, Workload

_SHAPES = {"max_title_tokens", "max_text_tokens", "sentiment", "validation_days", "test_days"}
"""The data settings that a store depends on."""


def prepare(data: Path, recipe: NewsRecipe, preparation: Preparation) -> Prepared[Store]:
    """Return the prepared store of ``data``, made on first use.

    A trained ``model`` brings its own tokenizer, so that the encoder it began with need not be there.
    Without ``out`` it stands in the cache (``$COUNTERPOINT_CACHE``, else ``~/.cache/counterpoint``), under a
    name that changes with the files, the tokenizer and the settings that shape a store.
    """
    if preparation.model is None:
        tokenizer = tokenizer_of(recipe.encoder, word_vectors(recipe.encoder, preparation.progress))
    else:
        tokenizer = load_tokenizer(str(ModelFolder(preparation.model).encoder))
    if is_store(data):
        store = Store(data)
        require_made_for(store, tokenizer, recipe.data)
        return Prepared(_fitting(store, recipe), fresh=False)
    source, needs_text = find(data, preparation.format), bool(recipe.texts)
    shaped_by = {
        **recipe.data.model_dump(include=_SHAPES),
        "needs_text": needs_text,
        "tokenizer": tokenizer.fingerprint,
        "on_bad_row": preparation.on_bad_row,
    }
    prepared = opened_or_made(
        data,
        source.files,
        [FORMAT, source.format.name, shaped_by],
        preparation.out,
        opened=Store,
        made=lambda place: prepare_source(
            source, place, tokenizer, recipe.data, preparation, needs_text=needs_text
        ),
    )
    _fitting(prepared.store, recipe)
    return prepared


def trainee(recipe: NewsRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    words = word_vectors(recipe.encoder, progress)
    tokenizer = tokenizer_of(recipe.encoder, words)
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe, store, words)
    cache = frozen_states(model, store, progress)
    features = FeatureReader(store, recipe, model.vocabulary.labels.get("article", ()), cache)
    batches = TrainingBatches(store, recipe, features)

    def validate() -> dict[str, float]:
        outcome = evaluate_ranking(
            model,
            recipe,
            store,
            "validation",
            features=features,
            with_floors=False,
            progress=named(progress, "validating"),
        )
        return measured(outcome.record)

    return Trainee(
        model,
        batches,
        target="click",
        metric="auc",
        validate=validate if store.manifest["splits"].get("validation") else None,
        save=lambda folder: save(model, store, tokenizer, folder),
        facts={"training examples": batches.examples, **batches.skipped},
    )


def evaluate(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str, progress: Progress
) -> Evaluated:
    """Return metrics, floors, slices and counts of a split, and the metrics of every impression."""
    if split == "unlabelled":
        raise UsageError("the unlabelled split has no clicks to evaluate with; use counterpoint submit.")
    outcome = evaluate_ranking(model, recipe, store, split, progress=progress)
    floors = {name: floor.per_impression for name, floor in outcome.floors.items()}
    return Evaluated.of(outcome.record, outcome.ranking.per_impression, floors)


def _submit(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str | None, out: Path, progress: Progress
) -> Submission:
    """Write the predictions in a zip; by default those of the unlabelled split, else of ``test``."""
    chosen = split or ("unlabelled" if store.manifest["splits"].get("unlabelled") else "test")
    return write_submission(model, recipe, store, chosen, out, progress)


def _recommender(model: Recommender, recipe: NewsRecipe, store: Store, folder: Path) -> NewsRecommender:
    """Return what ranks articles for one reader."""
    return NewsRecommender(model, recipe, store, load_tokenizer(str(ModelFolder(folder).encoder)))


def _fitting(store: Store, recipe: NewsRecipe) -> Store:
    """Refuse a store that lacks what the recipe's articles are made of."""
    for field in recipe.texts:
        if not store.has_text(field):
            raise CounterpointError(
                f"{store.path}: its articles have no {field}; leave {field!r} out of articles.fields."
            )
    return store


WORKLOAD = Workload(
    name="news",
    recipe_type=NewsRecipe,
    formats=FORMATS,
    example="mtrec",
    find=find,
    prepare=prepare,
    trainee=trainee,
    load=load,
    evaluate=evaluate,
    capabilities=Capabilities(
        recommend=Recommends(
            to="readers", asked=("article", "candidates", "history"), recommender=_recommender
        ),
        submit=_submit,
    ),
)
