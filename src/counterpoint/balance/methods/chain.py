"""Two methods in a row: magnitudes first, then directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from counterpoint.balance.block_balancer import BlockBalancer, Granularity, Passes
from counterpoint.balance.engine import Balancer
from counterpoint.balance.step import Tasks
from counterpoint.balance.target_first import TargetFirst


@dataclass(eq=False, repr=False)
class Chain(TargetFirst):
    """Scales the gradients with the first method and hands them to the second.

        ĝ_k = d_k g_k        g = Σ w_k ĝ_k,  with w the second method's weights of the ĝ

    So MetaBalance before a method of directions (He et al., WWW 2022, table 3):
    `chain(MetaBalance(), GradSurgery())`. Every method sees gradients at its own granularity. That of the
    chain is the finer of the two: with norms balanced tensor by tensor, a second method at "whole" still
    judges the scaled gradients over all shared parameters, and its weights apply in every block. Given to
    `merge`, blocks are the chain's.

    Costs one backward pass through the trunk per task; with more than three tasks and two methods that look
    at auxiliary tasks one by one (`TargetFirst`) still three copies of the gradients. Scales with the
    gradients if both methods do. Losses come to the second method as they are, without d_k.

    Attributes:
        first: gives every task's gradient a factor: MetaBalance, OL-AUX, GradSimilarity, or a method of
            losses such as `Fixed`.
        second: any method that weighs gradients by their inner products.
        granularity: the finer of the two methods'.

    Raises:
        TypeError: a first method that mixes gradients, a second one that looks at none or at coordinates.
        ValueError: two different granularities other than "whole"; a method that holds weights over steps
            (`every`) or takes gradients at the representation.
    """

    name = "chain"
    source = "He et al., WWW 2022, table 3"
    promises = ("scales", "symmetric", "agrees with the target", "alone")  # of the pair in the table
    stateful = ("first", "second")

    first: Balancer
    second: Balancer
    granularity: Granularity = field(default="whole", init=False)
    passes: Passes = field(default="exact", init=False)
    every: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        for method in (self.first, self.second):
            if not isinstance(method, Balancer):
                raise TypeError(f"A chain is of two balancers; {method!r} is a {type(method).__name__}.")
        if not self.first.scales:
            raise TypeError(
                f"{self.first!r} does more than scale gradients; give it as the second method of a chain."
            )
        if not isinstance(self.second, BlockBalancer):
            raise TypeError(
                f"{self.second!r} does not weigh gradients by their inner products and cannot be second."
            )
        for method in (self.first, self.second):
            if method.at_representation() or "held" in method.state_names():
                raise ValueError(
                    f"A chain takes exact passes and new weights at every step; leave out `passes` and"
                    f" `every` of {method!r}."
                )
        self.granularity = _finer(self.first, self.second)
        self.needs_target = self.first.needs_target or self.second.needs_target  # type: ignore[misc]
        self.needs_losses = self.first.needs_losses or self.second.needs_losses  # type: ignore[misc]

    def by_pairs(self) -> bool:
        """Return whether both methods look at every auxiliary task alone."""
        return len(self._in_pairs()) == 2

    def weigh(
        self, products: Float[np.ndarray, "blocks rows rows"], rows: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        """Return the product of both methods' weights."""
        if self.by_pairs():
            return super().weigh(products, rows)
        factors = self._weights_by(self.first, products, rows)
        scaled = factors[:, :, None] * products * factors[:, None, :]
        weights: Float[np.ndarray, "blocks rows"] = factors * self._weights_by(self.second, scaled, rows)
        return weights

    def begin(self, target: str, squares: Float[np.ndarray, " blocks"]) -> None:
        """Begin a step of both methods; the target's gradient is not scaled."""
        for method in self._in_pairs():
            method.begin(target, self._seen_by(method, squares))

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Return what the second method adds to the target's weight, and both methods' weights multiplied."""
        first, second = self._in_pairs()
        _, factor = first.pair(task, *(self._seen_by(first, each) for each in (squares, inner, target)))
        scaled = (factor**2 * squares, factor * inner, target)
        of_target, own = second.pair(task, *(self._seen_by(second, each) for each in scaled))
        return np.broadcast_to(of_target, inner.shape), np.broadcast_to(factor * own, inner.shape)

    def _in_pairs(self) -> list[TargetFirst]:
        """Return those of the methods that look at every auxiliary task alone."""
        both = (self.first, self.second)
        return [each for each in both if isinstance(each, TargetFirst) and each.by_pairs()]

    def _weights_by(
        self, method: Balancer, products: Float[np.ndarray, "blocks rows rows"], tasks: Tasks
    ) -> Float[np.ndarray, "blocks rows"]:
        plan = method._plan(tasks).task_by_task()
        weights = method._weights(self._seen_by(method, products), plan, tasks)
        return np.broadcast_to(weights, products.shape[:2])

    def _seen_by(
        self, method: Balancer, products: Float[np.ndarray, "blocks ..."]
    ) -> Float[np.ndarray, "seen ..."]:
        """Return inner products as a method sees them: added up if it does not tell blocks apart."""
        coarser = _granularity(method) == "whole" != self.granularity
        return products.sum(axis=0, keepdims=True) if coarser else products

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise `ValueError` if one of the methods cannot take these tasks."""
        self.first.check_tasks(names)
        self.second.check_tasks(names)

    def needs_order(self) -> bool:
        """Return whether one of the methods does."""
        return self.first.needs_order() or self.second.needs_order()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of both methods' states."""
        return {"first": self.first.state_dict(), "second": self.second.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both methods' states.

        Raises:
            ValueError: the state is another method's.
        """
        if set(state) != {"first", "second"}:
            raise ValueError(f"{self!r} has the state ['first', 'second'], not {sorted(state)}.")
        self.first.load_state_dict(state["first"])
        self.second.load_state_dict(state["second"])

    def _snapshot(self) -> dict[str, Any]:
        return {"first": self.first._snapshot(), "second": self.second._snapshot()}

    def _restore(self, before: Mapping[str, Any]) -> None:
        self.first._restore(before["first"])
        self.second._restore(before["second"])

    def __repr__(self) -> str:
        return f"chain({self.first!r}, {self.second!r})"


def chain(first: Balancer, second: Balancer) -> Chain:
    """Return `Chain(first, second)`: magnitudes first, then directions.

    balance.chain(balance.MetaBalance(), balance.GradSurgery())
    """
    return Chain(first, second)


def _granularity(method: Balancer) -> Granularity:
    granularity: Granularity = getattr(method, "granularity", "whole")
    return granularity


def _finer(first: Balancer, second: Balancer) -> Granularity:
    """Return the finer granularity of two methods."""
    one, other = _granularity(first), _granularity(second)
    if other == "whole" or _by_identity(one) == _by_identity(other):
        return one
    if one == "whole":
        return other
    raise ValueError(
        f"{first!r} and {second!r} divide the parameters in different ways; give both the same granularity"
        " or one of them 'whole'."
    )


def _by_identity(granularity: Granularity) -> object:
    """Return a granularity to compare by; tensors themselves compare coordinate by coordinate."""
    return granularity if isinstance(granularity, str) else [list(map(id, group)) for group in granularity]
