"""The news workload: what the commands and the training loop ask of it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

import torch

from counterpoint.encoders.pretrained import load_encoder, load_tokenizer
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.evaluation.tables import Evaluation
from counterpoint.files import read_json, write_json
from counterpoint.news.batches import TrainingBatches
from counterpoint.news.data.layout import Source, find
from counterpoint.news.data.prepare import prepare as prepare_source
from counterpoint.news.data.store import FORMAT, Store
from counterpoint.news.evaluate import evaluate as evaluate_ranking
from counterpoint.news.models.recommender import Recommender, build, pretrained_encoder
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.recommend import NewsRecommender
from counterpoint.news.submit import Submission, write_submission
from counterpoint.progress import Progress
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.workload import Trainee

recipe_type = NewsRecipe


def prepare(
    data: Path,
    recipe: NewsRecipe,
    *,
    format_name: str | None,
    out: Path | None,
    on_bad_row: Literal["stop", "skip"],
    progress: Progress,
    model: Path | None = None,
) -> Store:
    """Return the prepared store of ``data``, made on first use.

    A trained ``model`` brings its own tokenizer, so that the encoder it began with need not be there.
    Without ``out`` it stands in the cache (``$COUNTERPOINT_CACHE``, else ``~/.cache/counterpoint``), under a
    name that changes with the files, the tokenizer and the settings that shape a store.
    """
    tokenizer = (
        load_tokenizer(recipe.encoder.name, recipe.encoder.revision)
        if model is None
        else load_tokenizer(str(model / "encoder"))
    )
    if (data / "manifest.json").is_file():
        store = Store(data)
        store.require(tokenizer.fingerprint, tokenizer.name, recipe.data.max_title_tokens)
        return store
    source = find(data, format_name)
    settings = {
        "max_title_tokens": recipe.data.max_title_tokens,
        "validation_days": recipe.data.validation_days,
        "test_days": recipe.data.test_days,
    }
    if out is None:
        out = _cached(
            data, source, {**settings, "tokenizer": tokenizer.fingerprint, "on_bad_row": on_bad_row}
        )
        if out.exists():
            return Store(out)
    return prepare_source(source, out, tokenizer, **settings, on_bad_row=on_bad_row, progress=progress)


def trainee(recipe: NewsRecipe, store: Store) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn."""
    torch.manual_seed(recipe.training.seed)
    model = build(recipe, store.labels, encoder=pretrained_encoder(recipe))
    batches = TrainingBatches(store, recipe)
    validated = bool(store.manifest["splits"].get("validation"))

    def validate() -> dict[str, float]:
        outcome = evaluate_ranking(model, recipe, store, "validation", with_floors=False)
        return {name: value for name, value in outcome.record["metrics"].items() if value is not None}

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
    """Write weights, configuration, label names and tokenizer: all that loading needs, and no code."""
    save_weights(model, folder / "model.safetensors")
    model.encoder.save_config(folder / "encoder")
    load_tokenizer(recipe.encoder.name, recipe.encoder.revision).pretrained.save_pretrained(
        folder / "encoder"
    )
    made = store.manifest["tokenizer"]
    write_json(
        folder / "model.json", {"pooling": model.encoder.pooling, "tokenizer": made, "labels": store.labels}
    )


def load(folder: Path, recipe: NewsRecipe, store: Store) -> Recommender:
    """Return the model in ``folder``, ready to score; no encoder is looked up elsewhere.

    The ``store`` takes over the model's label numbers: other data numbers its categories otherwise.

    Raises:
        CounterpointError: the folder is incomplete.
    """
    facts = read_json(folder / "model.json")
    if not (folder / "encoder" / "config.json").is_file():
        raise CounterpointError(f"{folder}: the encoder's configuration is missing; train again.")
    encoder = load_encoder(str(folder / "encoder"), pooling=facts["pooling"], random_weights=True)
    model = build(recipe, facts["labels"], encoder=encoder)
    load_weights(model, folder / "model.safetensors")
    store.use_labels(facts["labels"])
    return model.eval()


def evaluate(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str, progress: Progress
) -> Evaluation:
    """Return metrics, floors, slices and counts of a split."""
    if split == "unlabelled":
        raise UsageError("the unlabelled split has no clicks to evaluate with; use counterpoint submit.")
    return evaluate_ranking(model, recipe, store, split, progress=progress).record


def submit(
    model: Recommender, recipe: NewsRecipe, store: Store, split: str | None, out: Path, progress: Progress
) -> Submission:
    """Write MIND's ``prediction.txt`` in its zip; by default of the unlabelled split, else of ``test``."""
    chosen = split or ("unlabelled" if store.manifest["splits"].get("unlabelled") else "test")
    return write_submission(model, recipe, store, chosen, out, progress)


def recommender(model: Recommender, recipe: NewsRecipe, store: Store, folder: Path) -> NewsRecommender:
    """Return what ranks articles for one reader."""
    return NewsRecommender(model, recipe, store, load_tokenizer(str(folder / "encoder")))


def _cached(data: Path, source: Source, settings: dict[str, object]) -> Path:
    """Return where the store of these files and settings stands."""
    cache = Path(os.environ.get("COUNTERPOINT_CACHE") or Path.home() / ".cache" / "counterpoint")
    files = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in source.files]
    key = json.dumps([FORMAT, source.format.name, files, settings], sort_keys=True)
    return cache / "stores" / f"{data.resolve().name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
