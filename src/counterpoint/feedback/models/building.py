"""From the recipe to a model, and from its folder."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from counterpoint.errors import CounterpointError, UsageError, nearest
from counterpoint.feedback.data.schema import Schema
from counterpoint.feedback.data.store import Store
from counterpoint.feedback.models.chains import Apart, AttentionTransfer, Products
from counterpoint.feedback.models.experts import DeepFMExperts, Experts, Fill, MLPExperts, linear
from counterpoint.feedback.models.extraction import Extraction
from counterpoint.feedback.models.fields import Fields
from counterpoint.feedback.models.network import FeedbackNetwork
from counterpoint.feedback.models.separate import SeparateNetworks
from counterpoint.feedback.recipe import FeedbackRecipe, Network
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.files import read_json, write_json
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.training.dropout import Dropout

Model = FeedbackNetwork | SeparateNetworks
"""What predicts the labels of rows: a network for all of them, or one for each."""


def fresh(recipe: FeedbackRecipe, schema: Schema) -> Model:
    """Return a recipe's model before training; the generator of torch decides all that is drawn.

    Raises:
        UsageError: the schema has no column or no label, or the chain names a task that is no label.
    """
    if not recipe.separate:
        return network(schema, recipe.network)
    alone = [network(replace(schema, labels=(label,)), recipe.network) for label in schema.labels]
    return SeparateNetworks(schema, alone, recipe.training.patience)


def save(model: Model, store: Store, folder: Path) -> None:
    """Write weights, columns and what was fitted on the training rows: all that scoring new rows needs."""
    weights = model.kept() if isinstance(model, SeparateNetworks) else model
    save_weights(weights, ModelFolder(folder).weights)
    told = {"schema": model.schema.as_dict(), "fitted": store.manifest["fitted"]}
    write_json(ModelFolder(folder).description, told)
    shutil.copytree(store.fitted_folder, ModelFolder(folder).fitted)


def load(folder: Path, recipe: FeedbackRecipe, store: Store) -> Model:
    """Return the model that `save` wrote, ready to score.

    Raises:
        CounterpointError: the folder is incomplete, or the store was prepared with other vocabularies, scales
            or quantiles.
    """
    told = read_json(ModelFolder(folder).description)
    if told["fitted"] != store.manifest["fitted"]:
        raise CounterpointError(
            f"{store.path}: prepared with other vocabularies than {folder} was trained on; name the raw "
            "data, which is then prepared with the model's, or the store that it was trained on."
        )
    model = fresh(recipe, Schema.from_dict(told["schema"]))
    load_weights(
        model.networks if isinstance(model, SeparateNetworks) else model, ModelFolder(folder).weights
    )
    return model.eval()


def network(schema: Schema, settings: Network) -> FeedbackNetwork:
    """Return a fresh network; the generator of torch decides all that is drawn.

    Raises:
        UsageError: the schema has no column or no label, or the chain names a task that is no label.
    """
    if not schema.fields or not schema.labels:
        raise UsageError("a network needs at least one column and one label; name them in the recipe.")
    order = _places(schema.labels, settings.order)
    fill, tasks = _FILLS[settings.initial], len(schema.labels)
    deep_fm, beside = settings.expert_kind == "deepfm", settings.expert_kind == "shared-fm-scalar"
    fields = Fields(
        [column.size for column in schema.ids],
        len(schema.numbers),
        [column.size for column in schema.lists],
        settings.embedding + deep_fm,
        sparse=settings.updates == "touched",
    )
    extraction = Extraction(
        tasks,
        schema.fields * (settings.embedding + deep_fm),
        shared=_shared_experts(settings, tasks),
        own=(settings.own_experts or 1) if settings.architecture == "ple" else 0,
        lowest=_lowest(schema.fields, settings, fill),
        widths=settings.experts,
        levels=settings.levels,
        dropout=settings.dropout,
        fill=fill,
    )
    found = (extraction.outputs + beside, *settings.towers)
    return FeedbackNetwork(
        schema,
        fields=fields,
        width=settings.embedding,
        extraction=extraction,
        beside=beside,
        towers=[_tower(found, settings.dropout, fill) for _ in range(tasks)],
        heads=[linear(found[-1], 1, fill) for _ in range(tasks)],
        chain=_CHAINS[settings.chain](order, found[-1], settings.calibrator, fill),
        all_shared=settings.shared == "all",
    )


def _places(labels: Sequence[str], order: Sequence[str]) -> list[int]:
    """Return the numbers of the tasks of a chain."""
    for task in order:
        if task not in labels:
            raise UsageError(
                f"network.order: there is no task {task!r}{nearest(task, labels)}; the tasks are "
                f"{', '.join(labels)}."
            )
    return [labels.index(task) for task in order]


def _shared_experts(settings: Network, tasks: int) -> int:
    """Return how many experts a level shares."""
    if settings.shared_experts is not None:
        return settings.shared_experts
    return tasks + 1 if settings.architecture == "mmoe" else 1


def _lowest(fields: int, settings: Network, fill: Fill) -> Callable[[int], Experts]:
    """Return what makes the experts of the lowest level."""
    width, widths, dropout = settings.embedding, settings.experts, settings.dropout
    if settings.expert_kind == "deepfm":
        return lambda experts: DeepFMExperts(experts, fields, width, widths, dropout, fill)
    return lambda experts: MLPExperts(experts, fields * width, widths, dropout, fill)


def _tower(sizes: Sequence[int], dropout: float, fill: Fill) -> nn.Sequential:
    """Return a tower's layers, each with its ReLU and its dropout."""
    layers: list[nn.Module] = []
    for below, above in pairwise(sizes):
        layers += [linear(below, above, fill), nn.ReLU(inplace=True), Dropout(dropout)]
    return nn.Sequential(*layers)


def _normal(weights: Tensor) -> None:
    """Fill weights as paper 5 does (4.1.4)."""
    nn.init.normal_(weights, std=0.01)


_FILLS: dict[str, Fill] = {"normal": _normal, "xavier": nn.init.xavier_uniform_}

_CHAINS: dict[str, Callable[[Sequence[int], int, float, Fill], Apart]] = {
    "none": lambda order, width, calibrator, fill: Apart(),
    "esmm": lambda order, width, calibrator, fill: Products(order),
    "aitm": AttentionTransfer,
}
