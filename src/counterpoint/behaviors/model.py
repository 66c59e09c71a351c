"""Paper 4's network: users and items in, a logit for each behaviour out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from counterpoint.behaviors.batches import PairBatch
from counterpoint.behaviors.data.store import Store
from counterpoint.behaviors.recipe import BehaviorsRecipe, Network
from counterpoint.errors import CounterpointError
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.files import read_json, write_json
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.training.dropout import Dropout


class BehaviorsNetwork(nn.Module):
    """A bottom that all tasks share, neural collaborative filtering's, and a tower for each task.

        shared = [u ⊙ v ; MLP([p ; q])]        logit_k = tower_k(shared)

    (paper 4, figure 6) with a user's vectors u and p and an item's v and q, which come from tables of their
    own, or from one table of users and one of items (``tables = "common"``, and u = p, v = q). Every layer of
    the MLP and of the towers but the last is linear with a ReLU and dropout.

    It begins as neural collaborative filtering does (He et al., WWW 2017, and its reference code, which paper
    4's follows): vectors from N(0, 0.01²), so that pairs differ little and no logit is large at first; layers
    with a ReLU by Xavier's uniform rule, the last ones by Kaiming's for a sigmoid, no biases. Adam's steps do
    not shrink with the small gradients this gives the tables.

    Args:
        users: how many there are.
        items: how many there are.
        tasks: the behaviours, the target first.
        settings: the recipe's network section.
    """

    def __init__(self, users: int, items: int, tasks: Sequence[str], settings: Network) -> None:
        super().__init__()
        common = settings.tables == "common"
        self.tasks = tuple(tasks)
        self.mlp_users = _table(users, settings)
        self.mlp_items = _table(items, settings)
        self.gmf_users = self.mlp_users if common else _table(users, settings)
        self.gmf_items = self.mlp_items if common else _table(items, settings)
        self.mlp = nn.Sequential(*_layers(2 * settings.size, settings.mlp, settings.dropout))
        shared = settings.size + settings.mlp[-1]
        # By number: names of behaviours come from logs, and not all can name a module.
        self.towers = nn.ModuleList(_tower(shared, settings) for _ in tasks)

    def losses(self, batch: PairBatch) -> dict[str, Float[Tensor, ""]]:
        """Return each task's cross-entropy, the mean over the pairs."""
        shared = self._shared(batch.users, batch.items)
        return {
            task: binary_cross_entropy_with_logits(tower(shared)[:, 0], labels)
            for task, tower, labels in zip(self.tasks, self.towers, batch.labels.unbind(1), strict=True)
        }

    def logits(
        self, users: Int[Tensor, " pairs"], items: Int[Tensor, " pairs"]
    ) -> Float[Tensor, "pairs tasks"]:
        """Return the logit of each task for pairs of a user and an item."""
        shared = self._shared(users, items)
        return torch.cat([tower(shared) for tower in self.towers], dim=1)

    def tower(self, task: str) -> nn.Module:
        """Return the layers that are a task's own."""
        return self.towers[self.tasks.index(task)]

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the tables and the layers below the towers."""
        for module in dict.fromkeys((self.mlp_users, self.mlp_items, self.gmf_users, self.gmf_items)):
            yield from module.parameters()
        yield from self.mlp.parameters()

    def unsaved(self) -> AbstractSet[str]:
        """Return the second names of common tables, which are saved under the first ones."""
        common = self.gmf_users is self.mlp_users
        return {"gmf_users.weight", "gmf_items.weight"} if common else set()

    def _shared(
        self, users: Int[Tensor, " pairs"], items: Int[Tensor, " pairs"]
    ) -> Float[Tensor, "pairs width"]:
        """Return what all towers take: the product, then the MLP's output."""
        mlp = self.mlp_users(users), self.mlp_items(items)
        common = self.gmf_users is self.mlp_users
        gmf = mlp if common else (self.gmf_users(users), self.gmf_items(items))
        return torch.cat((gmf[0] * gmf[1], self.mlp(torch.cat(mlp, dim=1))), dim=1)


def _table(rows: int, settings: Network) -> nn.Embedding:
    """Return a table of vectors."""
    table = nn.Embedding(rows, settings.size, sparse=settings.updates == "touched")
    nn.init.normal_(table.weight, std=0.01)
    return table


def _layers(inputs: int, widths: Sequence[int], dropout: float) -> Iterator[nn.Module]:
    """Yield linear layers, each with its ReLU and its dropout."""
    for width in widths:
        linear = nn.Linear(inputs, width)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        yield from (linear, nn.ReLU(), Dropout(dropout))
        inputs = width


def _tower(inputs: int, settings: Network) -> nn.Sequential:
    """Return a tower with one logit on top."""
    last = nn.Linear((inputs, *settings.towers)[-1], 1)
    nn.init.kaiming_uniform_(last.weight, nonlinearity="sigmoid")
    nn.init.zeros_(last.bias)
    return nn.Sequential(*_layers(inputs, settings.towers, settings.dropout), last)


def fresh(recipe: BehaviorsRecipe, store: Store) -> BehaviorsNetwork:
    """Return a network for the users and items of a store; torch's generator decides all that is drawn."""
    return BehaviorsNetwork(store.user_count, store.item_count, recipe.tasks, recipe.network)


def save(model: BehaviorsNetwork, store: Store, folder: Path) -> None:
    """Write weights, and whose vectors they hold."""
    save_weights(model, ModelFolder(folder).weights)
    write_json(ModelFolder(folder).description, _identity(store))


def load(folder: Path, recipe: BehaviorsRecipe, store: Store) -> BehaviorsNetwork:
    """Return the network that `save` wrote, ready to score.

    Raises:
        CounterpointError: the folder is incomplete, or the store has other users or items: its vectors are
            theirs alone.
    """
    if read_json(ModelFolder(folder).description) != _identity(store):
        raise CounterpointError(
            f"{store.path}: its users and items are not those that {folder} has vectors of; use the store "
            "that the model was trained on, or train again."
        )
    model = fresh(recipe, store)
    load_weights(model, ModelFolder(folder).weights)
    return model.eval()


def _identity(store: Store) -> dict[str, str | int]:
    """Return what tells these users and items, in this order, from any others."""
    digest = hashlib.sha256()
    for ids in (store.user_ids, store.item_ids):
        digest.update(json.dumps(ids.to_list()).encode())
    return {"users": store.user_count, "items": store.item_count, "ids": digest.hexdigest()[:16]}
