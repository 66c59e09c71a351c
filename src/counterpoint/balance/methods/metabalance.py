"""Norms of auxiliary gradients brought nearer to the target's."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from counterpoint.balance import options
from counterpoint.balance.block_balancer import Granularity
from counterpoint.balance.state import kept_of_blocks
from counterpoint.balance.target_first import TargetFirst


@dataclass(eq=False, repr=False)
class MetaBalance(TargetFirst):
    """Brings the norms of auxiliary gradients nearer to that of the target's, each parameter by itself.

    With a moving average m_k of every task's norm, 0 at first, and the relax factor r,

        m_k ← β m_k + (1 - β) ‖g_k‖        g_i ← r (m_t / m_i) g_i + (1 - r) g_i        g = g_t + Σ g_i

    where the strategy says so: "A" shrinks the stronger ones (m_i > m_t), "B" enlarges the weaker ones
    (m_i < m_t), "C" does both: MetaBalance (He et al., WWW 2022), eq. 4-6 and algorithm 2. Directions stay,
    conflicts too. r = 0 is the plain sum, β = 0 does without the average ("- Moving Average", table 4). The
    authors' code has C alone, refuses r = 1, which the paper allows, and returns NaN where a task does not
    reach a parameter.

    Where the target has never had a gradient, m_t = 0 and A and C leave the others 1 - r of theirs, as the
    formula has it. An auxiliary gradient that is zero keeps the weight 1. A batch that lacks a task leaves
    its average as it is; one without the target gives the plain sum and moves no average. The averages are
    not corrected for starting at 0, which cancels in m_t / m_i between tasks that have come equally often;
    one that joins later is taken for weaker than it is in its first steps.

    Costs one backward pass through the trunk per task. Scales with the gradients if they all do, the past
    ones included.

    Attributes:
        strategy: "A", "B" or "C"; the paper finds C > A > B on both of its datasets.
        relax: r, from 0 to 1; best at 0.7 on UserBehavior-2017, at 0.9 on IJCAI-2015.
        beta: β, from 0 to below 1.
        granularity: where norms are compared: in each parameter tensor as published, in each group, or over
            all shared parameters ("whole").
    """

    name = "metabalance"
    source = "He et al., WWW 2022, eq. 4-6, algorithm 2"
    promises = ("scales", "symmetric", "alone")
    length = "K"
    by_place = True
    stateful = ("averages",)
    scales = True

    strategy: Literal["A", "B", "C"] = "C"
    relax: float = 0.7
    beta: float = 0.9
    granularity: Granularity = field(default="tensor", kw_only=True)
    averages: dict[str, Float[np.ndarray, " blocks"]] = field(default_factory=dict, init=False)
    target: str = field(default="", init=False)  # of the step begun

    def __post_init__(self) -> None:
        super().__post_init__()
        options.one_of("strategy", self.strategy, tuple(_APPLIES))
        options.within("relax", self.relax, 0.0, 1.0)
        options.below_one("beta", self.beta)

    def begin(self, target: str, squares: Float[np.ndarray, " blocks"]) -> None:
        """Average the target's norm."""
        self.target = target
        self._average(target, squares)

    def pair(
        self,
        task: str,
        squares: Float[np.ndarray, " blocks"],
        inner: Float[np.ndarray, " blocks"],
        target: Float[np.ndarray, " blocks"],
    ) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
        """Average the task's norm, and return 0 and r m_t / m_i + 1 - r where the strategy applies."""
        self._average(task, squares)
        of_task, of_target = self.averages[task], self.averages[self.target]
        # An average that has decayed over very many steps without a gradient is no divisor.
        applies = (squares > 0) & _APPLIES[self.strategy](of_task, of_target)
        ratio = np.divide(of_target, of_task, out=np.ones_like(of_task), where=applies)
        return np.zeros_like(inner), np.where(applies, self.relax * ratio + (1 - self.relax), 1.0)

    def _average(self, task: str, squares: Float[np.ndarray, " blocks"]) -> None:
        past = kept_of_blocks(self.averages, task, 0.0, squares)
        self.averages[task] = self.beta * past + (1 - self.beta) * np.sqrt(squares)


_APPLIES = {"A": np.greater, "B": np.less, "C": np.not_equal}
