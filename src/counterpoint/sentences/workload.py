"""The sentences workload: what the commands and the training loop ask of it."""

from pathlib import Path

import torch

from counterpoint.capabilities import Capabilities
from counterpoint.encoders.loading import load_tokenizer
from counterpoint.metrics.evaluated import measured
from counterpoint.progress import Progress, named, silent
from counterpoint.runs.folder import ModelFolder
from counterpoint.sentences.batches import TrainingBatches
from counterpoint.sentences.data.formats import FORMATS
from counterpoint.sentences.data.layout import all_files, find
from counterpoint.sentences.data.prepare import COUNTED, SHAPING
from counterpoint.sentences.data.prepare import prepare as prepare_files
from counterpoint.sentences.data.store import FORMAT, Store
from counterpoint.sentences.embed import SentenceEncoder, cut_notes
from counterpoint.sentences.evaluate import OVERALL, TRAINED, evaluate
from counterpoint.sentences.model import fresh, load, save
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.sentences.submit import write_submission
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.workload import Preparation, Trainee, Workload


def prepare(data: Path, recipe: SentencesRecipe, preparation: Preparation) -> Prepared[Store]:
    """Return the prepared store of ``data``, made on first use.

    A trained ``model`` brings its own tokenizer, so that the encoder it began with need not be there, and
    needs no training files. Without ``out`` the store stands in the cache, under a name that changes with the
    files, the tokenizer and the settings that shape it; the order of the recipe's tasks does not.
    """
    section = recipe.encoder
    tokenizer = (
        load_tokenizer(section.name, section.revision)
        if preparation.model is None
        else load_tokenizer(str(ModelFolder(preparation.model).encoder))
    )
    if is_store(data):
        store = Store(data)
        store.require(recipe, tokenizer, trained=preparation.model is not None)
        return Prepared(store, fresh=False)
    chosen = preparation.format or "sentences"
    form = FORMATS.named(chosen)
    files = find(data, recipe, form=form, trained=preparation.model is not None)
    settings = recipe.data.model_dump(include=set(SHAPING))
    tasks = {
        name: recipe.task[name].model_dump(include={"texts", "label", "classes", "scores"}) for name in files
    }
    return opened_or_made(
        data,
        all_files(files),
        [FORMAT, COUNTED, chosen, tokenizer.fingerprint, settings, tasks, preparation.on_bad_row],
        preparation.out,
        opened=Store,
        made=lambda place: prepare_files(files, place, tokenizer, recipe, preparation, form=form),
    )


def trainee(recipe: SentencesRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn.

    Training stops by the mean score of the tasks that are trained: other heads stay as they began.
    """
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe)
    batches = TrainingBatches(store, recipe)

    def validate() -> dict[str, float]:
        told = named(progress, "validation")
        return measured(evaluate(model, recipe, store, "validation", told, with_floors=False).record)

    return Trainee(
        model,
        batches,
        target=recipe.tasks[0],
        metric=OVERALL if len(recipe.trained) == len(recipe.tasks) else TRAINED,
        validate=validate,
        save=lambda folder: save(model, recipe, folder),
        facts={"training examples": batches.examples},
        notes=cut_notes(
            store.counts["sentences cut"],
            store.counts["distinct sentences"],
            recipe.data.max_tokens,
            remedy="raise data.max_tokens",
        ),
    )


def _encoder(folder: Path, recipe: SentencesRecipe) -> SentenceEncoder:
    """Return what makes vectors, similarities and answers of any sentences."""
    return SentenceEncoder(load(folder, recipe), recipe, load_tokenizer(str(ModelFolder(folder).encoder)))


WORKLOAD = Workload(
    name="sentences",
    recipe_type=SentencesRecipe,
    formats=FORMATS,
    example="minbert-final",
    prepare=prepare,
    trainee=trainee,
    load=load,
    evaluate=evaluate,
    capabilities=Capabilities(submit=write_submission, embed=_encoder),
)
