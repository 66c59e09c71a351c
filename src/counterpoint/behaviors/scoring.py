"""A network's scores of all items, without ever holding a feature of every pair of a user and an item."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.ranking import TIES_SEED, Scorer, index_of
from counterpoint.errors import CounterpointError
from counterpoint.precision import bf16_is_fast

# What the widest layer of one user takes for a block of items. On a processor it stays in the cache nearby.
_BLOCK_BYTES = {"cpu": 1 << 20, "cuda": 1 << 26}

_PROBES = 256  # items on which each user's error of the rough scores is measured
_SAFETY = 4  # how far beyond the largest error among the probes an error is reckoned with
_MOST_RESCORED = 2_048  # items for one user, beyond which scoring all of them exactly costs hardly more
_FEW_ITEMS = 4_096  # are ranked sooner than screened


def scorer_of(model: BehaviorsNetwork, task: str, masked: Interactions, depth: int) -> Scorer:
    """Return the fastest scorer that puts a network's first ``depth`` unmasked items in their order."""
    scorer = NetworkScorer(model, task)
    if scorer.items < _FEW_ITEMS or not bf16_is_fast(scorer.device):
        return scorer
    return ScreenedScorer(scorer, masked, depth)


class NetworkScorer:
    """A task's logits of all items, in float32 and without dropout.

    What depends on a user or an item alone is computed once: the halves of the MLP's first layer,

        W [p ; q] + b = (W_u p + b) + W_i q,

    and, for each user, the product's part of the tower's first layer, W (u ⊙ v) = (W diag(u)) v. So a user
    costs a few matrix products over the items, block by block, and no other task's tower is computed.

    Args:
        model: the network with its weights as they are now; after more training, make another scorer.
        task: whose logits.

    Raises:
        CounterpointError: a weight is infinite or not a number.
    """

    def __init__(self, model: BehaviorsNetwork, task: str) -> None:
        with torch.no_grad():
            self._weights = _Weights.of(model, task)
        self._halved = self._weights.to(torch.bfloat16)
        self.items, self.device = len(self._weights.gmf_items), self._weights.gmf_items.device

    @torch.no_grad()
    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Return the logits of all items."""
        return _logits(self._weights, self._weights, torch.from_numpy(users).long().to(self.device))

    @torch.no_grad()
    def rough_scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Return the logits of all items as bfloat16 arithmetic gives them, about twice as fast."""
        return _logits(self._weights, self._halved, torch.from_numpy(users).long().to(self.device))

    @torch.no_grad()
    def pair_scores(
        self, users: Int[Tensor, " pairs"], items: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        """Return the logits of some pairs."""
        weights = self._weights
        hidden = (weights.user_half[users] + weights.item_half[items]).relu_()
        for layer in weights.mlp:
            hidden = torch.addmm(layer.bias, hidden, layer.weight.T).relu_()
        hidden = torch.cat((weights.gmf_users[users] * weights.gmf_items[items], hidden), dim=1)
        *tower, last = weights.tower
        for layer in tower:
            hidden = torch.addmm(layer.bias, hidden, layer.weight.T).relu_()
        return torch.addmm(last.bias, hidden, last.weight.T)[:, 0]

    def largest_items(self, count: int) -> Int[np.ndarray, " count"]:
        """Return the items whose vectors are the longest: rounding errs most with them."""
        lengths = self._weights.gmf_items.norm(dim=1) + self._weights.item_half.norm(dim=1)
        longest: Int[np.ndarray, " count"] = lengths.topk(min(count, self.items)).indices.cpu().numpy()
        return longest


class ScreenedScorer:
    """A network's scores, exact for the items that can be among a user's first and rough for all others.

    All items are scored in bfloat16. How far that is off is measured for each user, on the items with the
    longest vectors and as many at random; ε is four times the largest error among them. With the rough score
    t of the last of the first ``depth`` unmasked items, an item below t − 2ε cannot be among the first: its
    exact score is below t − ε, and ``depth`` items have one above. The items from t − 2ε on are few and get
    their exact scores in place of the rough ones. A user for whom they are not few, or one of whose items
    turns out to be off by more than ε, is scored in float32 altogether.

    So the first items are float32's unless an item that was not measured is off by more than four times what
    any measured one is. (A bound that needs no measuring, from norms of the weights, is about a hundred times
    the largest error and wider than the scores' own spread: it would screen nothing.)

    Args:
        scorer: the network's.
        masked: pairs that are not ranked.
        depth: how many of the first items must be right.
    """

    def __init__(self, scorer: NetworkScorer, masked: Interactions, depth: int) -> None:
        self._scorer, self._masked = scorer, masked
        self._depth = min(depth, scorer.items)
        self._most = min(_MOST_RESCORED, scorer.items // 8)
        largest = scorer.largest_items(_PROBES // 2)
        others = np.random.default_rng(TIES_SEED).permutation(scorer.items)[: _PROBES // 2]
        self._probes = torch.from_numpy(np.union1d(largest, others)).to(scorer.device)

    @torch.no_grad()
    def scores(self, users: Int[np.ndarray, " block"]) -> Float[Tensor, "block items"]:
        """Return the scores of all items, the first of them exact."""
        scores = self._scorer.rough_scores(users)
        rows = torch.from_numpy(users).long().to(scores.device)
        off = _SAFETY * self._probed_errors(scores, rows)
        near = self._near(scores, users, off)
        few = near.sum(dim=1) <= self._most
        near &= few[:, None]
        place, items = near.nonzero(as_tuple=True)
        exact = self._scorer.pair_scores(rows[place], items)
        surprising = (scores[place, items] - exact).abs() > off[place]
        scores[place, items] = exact
        few[place[surprising]] = False
        unsafe = (~few).cpu().numpy()
        if unsafe.any():
            scores[~few] = self._scorer.scores(users[unsafe])
        return scores

    def _probed_errors(
        self, scores: Float[Tensor, "block items"], users: Int[Tensor, " block"]
    ) -> Float[Tensor, " block"]:
        """Return the largest error of each user's rough scores among the probes."""
        count = len(self._probes)
        exact = self._scorer.pair_scores(users.repeat_interleave(count), self._probes.repeat(len(users)))
        return (scores[:, self._probes] - exact.view(len(users), count)).abs().amax(dim=1)

    def _near(
        self,
        scores: Float[Tensor, "block items"],
        users: Int[np.ndarray, " block"],
        off: Float[Tensor, " block"],
    ) -> Bool[Tensor, "block items"]:
        """Return which items may be among the first ones that are not masked."""
        masked = index_of(self._masked, users, scores.device)
        kept = scores[masked]
        scores[masked] = -torch.inf
        # With fewer than that left, the last of them is a masked one, everything is near and nothing is few.
        last = scores.topk(self._depth, dim=1).values[:, -1]
        near = scores >= (last - 2 * off)[:, None]
        scores[masked] = kept
        return near


class _Layer(NamedTuple):
    """A linear layer's weights."""

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, " outputs"]


@dataclass(frozen=True)
class _Weights:
    """All that a task's logits are computed from.

    Attributes:
        user_half: the users' half of the MLP's first layer, with its bias.
        item_half: the items' half of it.
        gmf_users: the users' vectors in the product.
        gmf_items: the items' vectors in it.
        mlp: the MLP's other layers.
        tower: the task's layers, of which the last gives the logit.
    """

    user_half: Float[Tensor, "users width"]
    item_half: Float[Tensor, "items width"]
    gmf_users: Float[Tensor, "users size"]
    gmf_items: Float[Tensor, "items size"]
    mlp: Sequence[_Layer]
    tower: Sequence[_Layer]

    @classmethod
    def of(cls, model: BehaviorsNetwork, task: str) -> Self:
        """Take a network's weights and compute the halves."""
        tables = model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items
        users, items, gmf_users, gmf_items = (table.weight.detach().float() for table in tables)
        first, *mlp = _linear_layers(model.mlp)
        tower = _linear_layers(model.tower(task))
        layers = (parameter for layer in (first, *mlp, *tower) for parameter in layer)
        for weights in (users, items, gmf_users, gmf_items, *layers):
            if not weights.isfinite().all():
                raise CounterpointError(
                    f"The network that predicts {task!r} has weights that are infinite or not a number; "
                    "check that training did not diverge before ranking with it."
                )
        size = users.shape[1]
        user_half = torch.addmm(first.bias, users, first.weight[:, :size].T)
        return cls(user_half, items @ first.weight[:, size:].T, gmf_users, gmf_items, mlp, tower)

    def to(self, dtype: torch.dtype) -> Self:
        """Return the items' part and the layers in another precision; the users' are converted when used."""

        def converted(layers: Sequence[_Layer]) -> list[_Layer]:
            return [_Layer(layer.weight.to(dtype), layer.bias.to(dtype)) for layer in layers]

        return replace(
            self,
            item_half=self.item_half.to(dtype),
            gmf_items=self.gmf_items.to(dtype),
            mlp=converted(self.mlp),
            tower=converted(self.tower),
        )


def _logits(exact: _Weights, weights: _Weights, users: Int[Tensor, " block"]) -> Float[Tensor, "block items"]:
    """Return all items' logits, computed in the precision of ``weights``; ``exact`` has the users' part."""
    dtype, device = weights.gmf_items.dtype, users.device
    items, size = weights.gmf_items.shape
    first = exact.tower[0].weight
    vectors = exact.gmf_users[users][:, None]
    of_users = torch.cat((first[:, :size] * vectors, first[:, size:].expand(len(users), -1, -1)), dim=2).to(
        dtype
    )
    halves = exact.user_half[users].to(dtype)
    widths = first.shape[1], halves.shape[1], *(len(layer.bias) for layer in (*weights.mlp, *weights.tower))
    step = min(items, max(1, _BLOCK_BYTES.get(device.type, 1 << 20) // (max(widths) * dtype.itemsize)))
    # Where results are written: room made anew for each would cost as much as the smaller products.
    joined, below, *room = (torch.empty(step, width, dtype=dtype, device=device) for width in widths)
    logits = torch.empty(len(users), items, dtype=dtype, device=device)
    for start in range(0, items, step):
        rows = min(step, items - start)
        half = weights.item_half[start : start + rows]
        joined[:rows, :size] = weights.gmf_items[start : start + rows]
        for place in range(len(users)):
            hidden = _relu_(torch.add(half, halves[place], out=below[:rows]))
            outputs = iter(room)
            for layer in weights.mlp:
                hidden = _relu_(_linear(hidden, layer.weight, layer.bias, next(outputs)[:rows]))
            joined[:rows, size:] = hidden
            hidden = joined[:rows]
            for number, layer in enumerate(weights.tower[:-1]):
                weight = layer.weight if number else of_users[place]
                hidden = _relu_(_linear(hidden, weight, layer.bias, next(outputs)[:rows]))
            weight = weights.tower[-1].weight if len(weights.tower) > 1 else of_users[place]
            torch.mm(hidden, weight.T, out=logits[place, start : start + rows, None])
    # A bias common to all items would only use up digits of a coarse precision.
    return logits.float() + exact.tower[-1].bias


def _linear(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"],
    out: Float[Tensor, "rows outputs"],
) -> Float[Tensor, "rows outputs"]:
    return torch.addmm(bias, inputs, weight.T, out=out)


def _relu_(values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """Set what is negative to zero, in place.

    A bfloat16 is negative where the 16-bit integer of its bits is; PyTorch compares integers seven times as
    fast, as it converts each bfloat16 to float32 and back.
    """
    if values.dtype == torch.bfloat16:
        values.view(torch.int16).clamp_min_(0)
        return values
    return values.relu_()


def _linear_layers(layers: nn.Module) -> list[_Layer]:
    """Return the weights of a stack's linear layers, in order."""
    linear = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    return [_Layer(layer.weight.detach().float(), layer.bias.detach().float()) for layer in linear]
