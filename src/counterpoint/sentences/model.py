"""The model: one encoder, a head for each task."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.adapters import Lora
from counterpoint.encoders.loading import load_encoder, load_tokenizer, restore_encoder
from counterpoint.encoders.pretrained import PretrainedEncoder
from counterpoint.encoders.tokens import Texts
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.runs.folder import ModelFolder
from counterpoint.sentences.batches import TaskBatch
from counterpoint.sentences.data.store import Store
from counterpoint.sentences.heads import Head, make_head
from counterpoint.sentences.recipe import SentencesRecipe
from counterpoint.storage.files import read_json, write_json
from counterpoint.training.checkpoint import load_weights, save_weights


class SentenceModel(nn.Module):
    """An encoder that all tasks share, with a head for each.

    Args:
        encoder: texts to vectors.
        heads: by task.
    """

    def __init__(self, encoder: PretrainedEncoder, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = tuple(heads)
        # By number: a task of one's own may have a name that no module can have.
        self.heads = nn.ModuleList(heads.values())

    def losses(self, batch: TaskBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of the batch's task, weighted as the batch is."""
        vectors = self.vectors(batch.texts)
        # A lookup's backward pass adds rows up without the sorting that indexing does.
        sides = [nn.functional.embedding(places, vectors) for places in batch.sides]
        return {batch.task: batch.weight * self.head(batch.task).loss(sides, batch.labels)}

    def vectors(self, texts: Texts) -> Float[Tensor, "texts size"]:
        """Return the vector of each text."""
        pooled: Tensor = self.encoder(texts)[1]
        return pooled

    def head(self, task: str) -> Head:
        """Return a task's head."""
        return cast(Head, self.heads[self.tasks.index(task)])

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the encoder's parameters that are trained."""
        return (parameter for parameter in self.encoder.parameters() if parameter.requires_grad)


def fresh(recipe: SentencesRecipe) -> SentenceModel:
    """Return the model that training starts from; all that is drawn comes from torch's generator.

    Raises:
        UsageError: the encoder cannot be loaded, or has no positions for texts so long.
    """
    section = recipe.encoder
    encoder = load_encoder(
        section.name,
        revision=section.revision,
        pooling=section.pooling,
        dropout=section.dropout,
        random_weights=section.random_weights,
        lora=None if section.lora is None else Lora(**section.lora.model_dump()),
    )
    joint = [name for name in recipe.tasks if recipe.task[name].pair == "joint"]
    longest = recipe.data.max_tokens * (2 if joint else 1)
    if encoder.longest is not None and longest > encoder.longest:
        of_pairs = f", twice that for the pairs of {joint[0]!r}" if joint else ""
        raise UsageError(
            f"encoder {section.name!r} has positions for {encoder.longest} tokens, data.max_tokens = "
            f"{recipe.data.max_tokens} asks for more{of_pairs}; lower data.max_tokens."
        )
    return _around(encoder, recipe, recipe.in_order)


def save(model: SentenceModel, recipe: SentencesRecipe, folder: Path) -> None:
    """Write weights, configuration and tokenizer: all that loading needs, and no code."""
    save_weights(model, ModelFolder(folder).weights)
    model.encoder.save_config(ModelFolder(folder).encoder)
    load_tokenizer(recipe.encoder.name, recipe.encoder.revision).pretrained.save_pretrained(
        ModelFolder(folder).encoder
    )
    write_json(
        ModelFolder(folder).description, {"tasks": model.tasks, "encoder": model.encoder.description()}
    )


def load(folder: Path, recipe: SentencesRecipe, store: Store | None = None) -> SentenceModel:
    """Return the model in ``folder``, ready to answer; only a base under adapters is looked up elsewhere.

    The ``store`` is of no use here: sentences have no numbers that it would take over.

    Raises:
        CounterpointError: the folder is incomplete, or the base of its adapters is not there.
    """
    facts = read_json(ModelFolder(folder).description)
    if not (ModelFolder(folder).encoder / "config.json").is_file():
        raise CounterpointError(f"{folder}: the encoder's configuration is missing; train again.")
    model = _around(restore_encoder(ModelFolder(folder).encoder, facts["encoder"]), recipe, facts["tasks"])
    load_weights(model, ModelFolder(folder).weights)
    return model.eval()


@torch.inference_mode()
def untrained(recipe: SentencesRecipe) -> PretrainedEncoder:
    """Return the encoder before any training: a floor. Torch's generator is left as it was."""
    section = recipe.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        encoder = load_encoder(
            section.name,
            revision=section.revision,
            pooling=section.pooling,
            random_weights=section.random_weights,
        )
    encoder.precision = recipe.training.precision
    return encoder.eval()


def _around(encoder: PretrainedEncoder, recipe: SentencesRecipe, tasks: Sequence[str]) -> SentenceModel:
    encoder.precision = recipe.training.precision
    heads = {name: make_head(recipe.task[name], encoder.size, recipe) for name in tasks}
    return SentenceModel(encoder, heads)
