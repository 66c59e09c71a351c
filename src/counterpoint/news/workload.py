"""The news workload: what the commands and the training loop ask of it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from counterpoint.encoders.frozen import StateCache, cache_key
from counterpoint.encoders.pretrained import PretrainedEncoder, load_tokenizer
from counterpoint.encoders.tokens import Texts
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.metrics.tables import Evaluated, measured
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.formats import FORMATS
from counterpoint.news.data.layout import find
from counterpoint.news.data.prepare import prepare as prepare_source
from counterpoint.news.data.store import FORMAT, Store
from counterpoint.news.evaluate import evaluate as evaluate_ranking
from counterpoint.news.features import FeatureReader, packed
from counterpoint.news.models.building import build, fresh, saved_texts
from counterpoint.news.models.recommender import Recommender
from counterpoint.news.models.vocabulary import Vocabulary
from counterpoint.news.models.words import tokenizer_of
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.recommend import NewsRecommender
from counterpoint.news.submit import write_submission
from counterpoint.progress import Progress, silent
from counterpoint.storage.files import cache_folder, read_json, write_json
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.workload import Capabilities, Preparation, Recommends, Submission, Trainee, Workload


def prepare(data: Path, recipe: NewsRecipe, preparation: Preparation) -> Prepared[Store]:
    """Return the prepared store of ``data``, made on first use.

    A trained ``model`` brings its own tokenizer, so that the encoder it began with need not be there.
    Without ``out`` it stands in the cache (``$COUNTERPOINT_CACHE``, else ``~/.cache/counterpoint``), under a
    name that changes with the files, the tokenizer and the settings that shape a store.
    """
    trained = preparation.model
    tokenizer = tokenizer_of(recipe.encoder) if trained is None else load_tokenizer(str(trained / "encoder"))
    shape = recipe.data
    if is_store(data):
        store = Store(data)
        store.require(
            tokenizer.fingerprint,
            tokenizer.name,
            shape.max_title_tokens,
            max_text_tokens=shape.max_text_tokens,
            sentiment=shape.sentiment,
        )
        return Prepared(_fitting(store, recipe), fresh=False)
    source = find(data, preparation.format)
    settings: dict[str, Any] = {
        "max_title_tokens": shape.max_title_tokens,
        "max_text_tokens": shape.max_text_tokens,
        "sentiment": shape.sentiment,
        "needs_text": bool(recipe.texts),
        "validation_days": shape.validation_days,
        "test_days": shape.test_days,
    }
    shaped_by = {**settings, "tokenizer": tokenizer.fingerprint, "on_bad_row": preparation.on_bad_row}
    prepared = opened_or_made(
        data,
        source.files,
        [FORMAT, source.format.name, shaped_by],
        preparation.out,
        opened=Store,
        made=lambda place: prepare_source(
            source,
            place,
            tokenizer,
            **settings,
            on_bad_row=preparation.on_bad_row,
            progress=preparation.progress,
        ),
    )
    _fitting(prepared.store, recipe)
    return prepared


def trainee(recipe: NewsRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe, store)
    cache = _state_cache(model, store, progress)
    features = FeatureReader(store, recipe, model.vocabulary.labels.get("article", ()), cache)
    batches = TrainingBatches(store, recipe, features)
    validated = bool(store.manifest["splits"].get("validation"))

    def validate() -> dict[str, float]:
        outcome = evaluate_ranking(model, recipe, store, "validation", features=features, with_floors=False)
        return measured(outcome.record)

    def save(folder: Path) -> None:
        save_model(model, recipe, store, folder)

    return Trainee(
        model,
        batches,
        target="click",
        metric="auc",
        validate=validate if validated else None,
        save=save,
        facts={"training examples": batches.examples, **batches.skipped},
    )


def save_model(model: Recommender, recipe: NewsRecipe, store: Store, folder: Path) -> None:
    """Write weights, configuration, names and tokenizer: all that loading needs, and no code."""
    save_weights(model, folder / "model.safetensors")
    encoder = _pretrained(model)
    if encoder is not None:
        encoder.save_config(folder / "encoder")
    tokenizer_of(recipe.encoder).pretrained.save_pretrained(folder / "encoder")
    write_json(
        folder / "model.json",
        {
            "tokenizer": store.manifest["tokenizer"],
            "vocabulary": model.vocabulary.to_json(),
            "encoder": {} if encoder is None else encoder.description(),
        },
    )


def load(folder: Path, recipe: NewsRecipe, store: Store) -> Recommender:
    """Return the model in ``folder``, ready to score; only a base under adapters is looked up elsewhere.

    The ``store`` takes over the model's numbers: other data numbers its categories otherwise.

    Raises:
        CounterpointError: the folder is incomplete, or the base of its adapters is not there.
    """
    facts = read_json(folder / "model.json")
    vocabulary = Vocabulary.from_json(facts["vocabulary"])
    if facts["encoder"] and not (folder / "encoder" / "config.json").is_file():
        raise CounterpointError(f"{folder}: the encoder's configuration is missing; train again.")
    texts = saved_texts(recipe, vocabulary, folder / "encoder", facts["encoder"])
    model = build(recipe, vocabulary, texts)
    load_weights(model, folder / "model.safetensors")
    store.use_labels(dict(vocabulary.labels))
    return model.eval()


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
    return NewsRecommender(model, recipe, store, load_tokenizer(str(folder / "encoder")))


def _fitting(store: Store, recipe: NewsRecipe) -> Store:
    """Refuse a store that lacks what the recipe's articles are made of."""
    for field in recipe.texts:
        if not store.has_text(field):
            raise CounterpointError(
                f"{store.path}: its articles have no {field}; leave {field!r} out of articles.fields."
            )
    return store


def _pretrained(model: Recommender) -> PretrainedEncoder | None:
    """Return the pretrained encoder of a model, if it has one."""
    found = [module for module in model.modules() if isinstance(module, PretrainedEncoder)]
    return found[0] if found else None


def _state_cache(model: Recommender, store: Store, progress: Progress) -> StateCache | None:
    """Return what frozen layers make of all titles, from the cache or computed now; none without any."""
    encoder = _pretrained(model)
    if encoder is None or not encoder.frozen_layers:
        return None
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    offsets = np.concatenate(([0], np.cumsum(store.title_lengths())))
    key = cache_key(encoder, f"{store.manifest['tokenizer']['fingerprint']} {_titles_hash(store)}")
    folder = cache_folder() / "states" / key
    cache = StateCache.open(folder, key)
    if cache is None:
        cache = StateCache.build(folder, key, encoder, _title_blocks(store), offsets, progress)
    return cache


def _titles_hash(store: Store) -> str:
    """Return what tells the tokens of all titles from any others."""
    every = np.arange(len(store.title_lengths()))
    tokens, lengths = store.texts("title", every)
    return hashlib.sha256(np.ascontiguousarray(tokens).tobytes() + lengths.tobytes()).hexdigest()[:16]


def _title_blocks(store: Store, size: int = 256) -> Iterator[tuple[Int[np.ndarray, " texts"], Texts]]:
    """Yield all titles, shortest first, some at a time."""
    order = np.argsort(store.title_lengths(), kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, packed(*store.texts("title", rows)).texts


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
