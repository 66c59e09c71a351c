"""The sentences workload: what the commands and the training loop ask of it."""

from pathlib import Path

import torch

from counterpoint.encoders.pretrained import load_tokenizer
from counterpoint.errors import CounterpointError
from counterpoint.metrics.tables import Evaluated, measured
from counterpoint.progress import Progress, silent
from counterpoint.sentences.batches import TrainingBatches
from counterpoint.sentences.data.formats import FORMATS
from counterpoint.sentences.data.layout import all_files, find
from counterpoint.sentences.data.prepare import COUNTED, SHAPING
from counterpoint.sentences.data.prepare import prepare as prepare_files
from counterpoint.sentences.data.store import FORMAT, Store
from counterpoint.sentences.encoder import SentenceEncoder, cut_notes
from counterpoint.sentences.evaluate import OVERALL, TRAINED
from counterpoint.sentences.evaluate import evaluate as evaluate_answers
from counterpoint.sentences.model import SentenceModel, fresh, saved
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.sentences.submit import write_submission
from counterpoint.storage.files import read_json, write_json
from counterpoint.storage.prepared import Prepared, is_store, opened_or_made
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.workload import Capabilities, Preparation, Submission, Trainee, Workload


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
        else load_tokenizer(str(preparation.model / "encoder"))
    )
    if is_store(data):
        store = Store(data)
        store.require(recipe, tokenizer, trained=preparation.model is not None)
        return Prepared(store, fresh=False)
    form = FORMATS.named(preparation.format or "sentences")
    files = find(data, recipe, form=form, trained=preparation.model is not None)
    settings = recipe.data.model_dump(include=set(SHAPING))
    tasks = {
        name: recipe.task[name].model_dump(include={"texts", "label", "classes", "scores"}) for name in files
    }
    return opened_or_made(
        data,
        all_files(files),
        [FORMAT, COUNTED, tokenizer.fingerprint, settings, tasks, preparation.on_bad_row],
        preparation.out,
        opened=Store,
        made=lambda place: prepare_files(
            files,
            place,
            tokenizer,
            recipe.data,
            recipe.task,
            form=form,
            on_bad_row=preparation.on_bad_row,
            progress=preparation.progress,
        ),
    )


def trainee(recipe: SentencesRecipe, store: Store, progress: Progress = silent) -> Trainee:
    """Return a fresh model with its batches; the recipe's seed decides all that is drawn.

    Training stops by the mean score of the tasks that are trained: other heads stay as they began.
    """
    torch.manual_seed(recipe.training.seed)
    model = fresh(recipe)
    batches = TrainingBatches(store, recipe)

    def validate() -> dict[str, float]:
        evaluated = evaluate_answers(model, recipe, store, "validation", with_floors=False)
        return measured(evaluated.record)

    def save(folder: Path) -> None:
        save_model(model, recipe, folder)

    return Trainee(
        model,
        batches,
        target=recipe.tasks[0],
        metric=OVERALL if len(recipe.trained) == len(recipe.tasks) else TRAINED,
        validate=validate,
        save=save,
        facts={"training examples": batches.examples},
        notes=cut_notes(
            store.counts["sentences cut"],
            store.counts["distinct sentences"],
            recipe.data.max_tokens,
            remedy="raise data.max_tokens",
        ),
    )


def save_model(model: SentenceModel, recipe: SentencesRecipe, folder: Path) -> None:
    """Write weights, configuration and tokenizer: all that loading needs, and no code."""
    save_weights(model, folder / "model.safetensors")
    model.encoder.save_config(folder / "encoder")
    load_tokenizer(recipe.encoder.name, recipe.encoder.revision).pretrained.save_pretrained(
        folder / "encoder"
    )
    write_json(folder / "model.json", {"tasks": model.tasks, "encoder": model.encoder.description()})


def load(folder: Path, recipe: SentencesRecipe, store: Store | None = None) -> SentenceModel:
    """Return the model in ``folder``, ready to answer; only a base under adapters is looked up elsewhere.

    The ``store`` is of no use here: sentences have no numbers that it would take over.

    Raises:
        CounterpointError: the folder is incomplete, or the base of its adapters is not there.
    """
    facts = read_json(folder / "model.json")
    if not (folder / "encoder" / "config.json").is_file():
        raise CounterpointError(f"{folder}: the encoder's configuration is missing; train again.")
    model = saved(recipe, folder / "encoder", facts["encoder"], facts["tasks"])
    load_weights(model, folder / "model.safetensors")
    return model.eval()


def evaluate(
    model: SentenceModel, recipe: SentencesRecipe, store: Store, split: str, progress: Progress
) -> Evaluated:
    """Return metrics, floors, confusions and counts of a split, and the metrics of every row."""
    return evaluate_answers(model, recipe, store, split, progress=progress)


def _submit(
    model: SentenceModel,
    recipe: SentencesRecipe,
    store: Store,
    split: str | None,
    out: Path,
    progress: Progress,
) -> Submission:
    """Write the answers in the course's form; by default those of the test and the unlabelled split."""
    return write_submission(model, recipe, store, split, out, progress)


def _encoder(folder: Path, recipe: SentencesRecipe) -> SentenceEncoder:
    """Return what makes vectors, similarities and answers of any sentences."""
    return SentenceEncoder(load(folder, recipe), recipe, load_tokenizer(str(folder / "encoder")))


def _finds(data: Path) -> bool:
    """Return that nothing tells files of sentences: it is the recipe that names them."""
    return False


WORKLOAD = Workload(
    name="sentences",
    recipe_type=SentencesRecipe,
    formats=FORMATS,
    example="minbert-final",
    finds=_finds,
    prepare=prepare,
    trainee=trainee,
    load=load,
    evaluate=evaluate,
    capabilities=Capabilities(submit=_submit, embed=_encoder),
)
