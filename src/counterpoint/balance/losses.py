"""Methods that look at no gradient, at most at the losses: one backward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.balance import checks, ranks
from counterpoint.balance.batch import Tasks
from counterpoint.balance.engine import Balancer
from counterpoint.balance.learned import LARGEST_LOG, Learned, descend, values

Reduction = Literal["sum", "mean"]


@dataclass(eq=False, repr=False)
class Equal(Balancer):
    """Gives every task the same weight: g = Σ g_k, or their mean with `reduction="mean"`."""

    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        checks.one_of("reduction", self.reduction, ("sum", "mean"))

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks."""
        return np.full((1, len(tasks.names)), 1 / len(tasks.names) if self.reduction == "mean" else 1.0)


class Fixed(Balancer):
    """Gives every task a weight of its own: g = Σ w_k g_k.

    The weights are for the shared parameters; every head keeps its plain gradient.

    Args:
        weights: a finite number per task; a step with a task that has none raises `ValueError`.

    Raises:
        TypeError: anything but a mapping of names to numbers.
        ValueError: no weights, or one that is not finite.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        _named_numbers(weights)
        if not weights or not all(isfinite(weight) for weight in weights.values()):
            raise ValueError(f"weights must give every task a finite number, not {dict(weights)!r}.")
        self._weight_of = {task: float(weight) for task, weight in weights.items()}

    def check_tasks(self, names: Sequence[str]) -> None:
        """Raise `ValueError` if a task has no weight."""
        for task in names:
            if task not in self._weight_of:
                raise ValueError(
                    f"Task {task!r} has no weight{checks.near(task, self._weight_of)}; give it one."
                )

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted."""
        self.check_tasks(tasks.names)
        return np.array([[self._weight_of[task] for task in tasks.names]])

    def __repr__(self) -> str:
        return f"Fixed(weights={self._weight_of!r})"


@dataclass(eq=False, repr=False)
class RandomLossWeighting(Balancer):
    """Draws the weights afresh at every step: w = softmax(z) with z_k from N(0, 1).

    RLW (Lin et al., TMLR 2022), algorithm 2 with the normal distribution. The weights add up to 1, so the
    gradient is as long as the mean's, not the sum's. The draws follow from `seed` and from how many came
    before, so ranks agree and resumed runs continue. Costs one backward pass. Looks at no loss: the weights
    do not change with the losses' scale, and the merged gradient scales with the gradients. Heads keep their
    plain gradient; in the paper they are weighted too. One task alone has weight 1.

    Attributes:
        seed: what the weights follow from.
    """

    seed: int = 0
    draws: int = field(default=0, init=False)
    stateful: ClassVar[tuple[str, ...]] = ("draws",)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with weights drawn for all tasks."""
        random = np.random.default_rng((self.seed, self.draws))
        self.draws += 1
        return _softmax(random.standard_normal(len(tasks.names)))[None]


@dataclass(eq=False, repr=False)
class Uncertainty(Balancer):
    """Divides every loss by a variance that is learned with the network.

        min over θ and s:  Σ ½ e^{-s_k} L_k + ½ s_k,   so  w_k = ½ e^{-s_k}

    with s = log σ², 0 at first: Kendall et al. (CVPR 2018), eq. 7, which is for regression. Their form for
    classification, L/σ² + log σ, which MetaBalance's authors take for all tasks (He et al., WWW 2022,
    eq. 10), is the same with σ² doubled and starts from weights of 1 instead of ½. At the optimum
    e^{s_k} = L_k, and every task brings ½ ∇ log L_k.

    The user's optimizer knows nothing of s: it takes a step of Adam here, by the losses of the same batch,
    after the weights have been read off. A task's s moves only in steps that have the task. Heads keep their
    plain gradient; in the paper they are weighted too. One task alone is weighted likewise.

    Costs one backward pass. Not free of scale: losses c times as large get weights 1/c as large only once s
    has moved by log c, with Adam at most about `lr` per step. Merged for given losses, the result scales
    with the gradients. |s| is at most 80, lest the weight of a loss that is 0 grow out of range.

    Attributes:
        lr: the step size of s; the default is that of Chen et al. (ICML 2018) for this method.

    Raises:
        ValueError: a negative loss, for which the objective has no minimum.
    """

    lr: float = 0.025
    log_variances: Learned = field(default_factory=dict, init=False)
    needs_losses: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("log_variances",)

    def __post_init__(self) -> None:
        checks.positive("lr", self.lr)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, each over its variance; learn the variances."""
        losses = losses_from_zero(self, tasks)
        precisions = np.exp(-values(self.log_variances, tasks.names))
        slopes = (1 - precisions * losses) / 2
        descend(self.log_variances, tasks.names, slopes, self.lr, bound=LARGEST_LOG)
        return np.array([precisions / 2])


@dataclass(eq=False, repr=False)
class DWA(Balancer):
    """Gives more weight to the tasks whose losses fall more slowly.

        w = K softmax(r / T),   r_k = L_k(t-1) / L_k(t-2)

    with L_k(t) the mean loss over a window of steps, K the number of tasks in the batch, and r_k = 1 while a
    task has not completed two windows, which makes all weights 1 at first: dynamic weight average (Liu et
    al., CVPR 2019), also MetaBalance's eq. 13 (He et al., WWW 2022). A window is an epoch in the former, 5 or
    10 steps in the latter: set `window` to the steps per epoch for an epoch. Every task counts its own steps,
    so one that comes more rarely has longer windows. After a mean of exactly 0 a task counts as unchanged
    (r = 1).

    Costs one backward pass. Free of scale: multiplying a loss by a constant changes no weight. Heads keep
    their plain gradient; in the paper they are weighted too. One task alone has weight 1.

    Attributes:
        temperature: T; larger ones bring the weights closer together.
        window: the steps that a mean is over: enough to tell a trend from the noise of batches.

    Raises:
        ValueError: a negative loss, whose ratios would mean the opposite.
    """

    temperature: float = 2.0
    window: int = 100
    sums: dict[str, float] = field(default_factory=dict, init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)
    means: dict[str, list[float]] = field(default_factory=dict, init=False)  # of the last two windows
    needs_losses: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("sums", "counts", "means")

    def __post_init__(self) -> None:
        checks.positive("temperature", self.temperature)
        checks.count("window", self.window)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with weights from the windows completed; add the losses to the present ones."""
        losses = losses_from_zero(self, tasks)
        ratios = np.array([self._ratio(task) for task in tasks.names])
        for task, loss in zip(tasks.names, losses.tolist(), strict=True):
            self._add(task, loss)
        return len(ratios) * _softmax(ratios / self.temperature)[None]

    def _ratio(self, task: str) -> float:
        means = self.means.get(task, [])
        return means[1] / means[0] if len(means) == 2 and means[0] > 0 else 1.0

    def _add(self, task: str, loss: float) -> None:
        self.sums[task] = self.sums.get(task, 0.0) + loss
        self.counts[task] = self.counts.get(task, 0) + 1
        if self.counts[task] == self.window:
            self.means[task] = [*self.means.get(task, []), self.sums[task] / self.window][-2:]
            self.sums[task], self.counts[task] = 0.0, 0


@dataclass(eq=False, repr=False)
class FAMO(Balancer):
    """Learns weights under which all losses fall by the same factor, from the losses alone.

        w_k = c z_k / L_k,   z = softmax(ξ),   c = 1 / Σ (z_k / L_k)
        ξ ← ξ - β (δ + γ ξ),   δ_k = z_k (d_k - Σ z_j d_j),   d = log L before the step - log L after it

    with ξ = 0 at first: FAMO (Liu et al., NeurIPS 2023), algorithm 1, the descent on ξ by Adam as in the
    authors' code and experiments. Weights add up to 1.

    The losses after the step are those of the *same* batch, evaluated once more:

        balancer.backward(losses, shared=trunk.parameters())
        optimizer.step()
        with torch.no_grad():
            balancer.observe(losses_of(batch))

    which costs another forward pass. Without `observe`, the losses of the next batch stand in for them at the
    next `backward`; their difference then has the noise of two batches in it. Only tasks in both count, with
    z taken over these, and it takes two.

    Costs one backward pass. The weights are the same for losses c times as large, so the merged gradient
    scales; a factor on a single loss changes their size, not the direction. Heads keep their plain gradient;
    in the paper they are weighted too. One task alone has weight 1. The authors' code subtracts a lower bound
    from every loss, adds 1e-8, and clips the norm of the shared parameters' gradient to 1; here none of this
    is done, and losses have to be positive.

    Attributes:
        lr: β, the step size of ξ.
        decay: γ, which draws ξ back to 0; the authors' code has 0.01 or 1e-5.

    Raises:
        ValueError: a loss that is not positive.
    """

    lr: float = 0.025
    decay: float = 1e-3
    logits: Learned = field(default_factory=dict, init=False)
    before: dict[str, float] = field(default_factory=dict, init=False)  # log L, not yet compared
    needs_losses: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("logits", "before")

    def __post_init__(self) -> None:
        checks.positive("lr", self.lr)
        checks.from_zero("decay", self.decay)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted; learn from how the last step's losses have changed."""
        logs = np.log(positive_losses(self, tasks))
        after = dict(zip(tasks.names, logs.tolist(), strict=True))
        self._learn(self.before, after)
        self.before = after
        return _softmax(values(self.logits, tasks.names) - logs)[None]

    def observe(self, losses: Mapping[str, Tensor | float | None]) -> None:
        """Learn from the losses of the batch just trained on, evaluated again after the optimizer's step.

        Does nothing if the last step was not finite, or if these losses are not. Under `torch.distributed`
        they are averaged over the ranks: give every rank the same tasks in the same order.

        Args:
            losses: as given to `backward`, unscaled; a task that is `None` is absent.

        Raises:
            ValueError: a task that the step did not have, a loss that is not positive.
        """
        given = {task: torch.as_tensor(loss).item() for task, loss in losses.items() if loss is not None}
        averaged = ranks.average_values(torch.tensor(list(given.values()), dtype=torch.float64)).numpy()
        if self.before and np.isfinite(averaged).all():
            for task in given:
                if task not in self.before:
                    raise ValueError(
                        f"The last step had no task {task!r}{checks.near(task, self.before)}; give the losses"
                        " of the same tasks again."
                    )
            logs = np.log(positive_losses(self, Tasks(tuple(given), losses=averaged)))
            self._learn(self.before, dict(zip(given, logs.tolist(), strict=True)))
        self.before = {}

    def _learn(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """Take a step on the logits of the tasks whose log losses are known before and after."""
        tasks = [task for task in before if task in after]
        if len(tasks) < 2:
            return
        logits = values(self.logits, tasks)
        shares = _softmax(logits)
        falls = np.array([before[task] - after[task] for task in tasks])
        slopes = shares * (falls - shares @ falls) + self.decay * logits
        descend(self.logits, tasks, slopes, self.lr)


@dataclass(eq=False, repr=False)
class STCH(Balancer):
    """Descends on a smooth maximum of how far the losses are from where they were after a warm-up.

        K μ log Σ exp(log(L_k / nadir_k) / μ),   so  w_k = K softmax(log(L / nadir) / μ)_k / L_k

    the smooth Tchebycheff scalarization (Lin et al., ICML 2024) of log losses with equal preferences, in the
    form of the authors' code for multi-task learning. As μ → 0 the task with the largest ratio takes all.
    During its first `warmup` steps a task counts with log L_k, so w_k = 1 / L_k; its mean loss over the last
    fifth of them is its nadir. (The code warms up for four epochs and takes the means over a fifth.) K is
    the number of the batch's tasks that are past their warm-up, and the softmax is over these.

    Costs one backward pass. The weights are those of log losses: losses c times as large have weights 1/c as
    large and the same merged gradient, whatever c of every task. Merged for given losses, the result scales
    with the gradients. Heads keep their plain gradient; in the code they are weighted too. One task alone has
    weight 1 / L.

    Attributes:
        mu: μ; the default is the code's, the paper tries 0.01 to 1.
        warmup: the steps up to a task's nadir; the steps of five epochs for the published schedule.

    Raises:
        ValueError: a loss that is not positive; the code adds 1e-20.
    """

    mu: float = 1.0
    warmup: int = 500
    steps: dict[str, int] = field(default_factory=dict, init=False)  # of the warm-up
    sums: dict[str, float] = field(default_factory=dict, init=False)  # of the losses in its last fifth
    needs_losses: ClassVar[bool] = True
    stateful: ClassVar[tuple[str, ...]] = ("steps", "sums")

    def __post_init__(self) -> None:
        checks.positive("mu", self.mu)
        checks.count("warmup", self.warmup)

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted; count the steps of tasks that are warming up."""
        losses = positive_losses(self, tasks)
        averaged = -(-self.warmup // 5)  # rounded up
        past = np.array([self.steps.get(task, 0) == self.warmup for task in tasks.names])
        nadirs = np.array([self.sums.get(task, 0.0) / averaged for task in tasks.names])
        weights = 1 / losses
        if past.any():
            ratios = np.log(losses[past]) - np.log(nadirs[past])
            weights[past] *= past.sum() * _softmax(ratios / self.mu)
        for task, loss, done in zip(tasks.names, losses.tolist(), past, strict=True):
            if not done:
                self.steps[task] = self.steps.get(task, 0) + 1
                if self.steps[task] > self.warmup - averaged:
                    self.sums[task] = self.sums.get(task, 0.0) + loss
        return weights[None]


@dataclass(eq=False, repr=False)
class GeometricMean(Balancer):
    """Descends on the geometric mean of the losses: (Π L_k)^{1/K}, so w_k = (Π L_j)^{1/K} / (K L_k).

    The geometric loss strategy (Chennupati et al., CVPR workshops 2019). Costs one backward pass. The
    weights are the same for losses c times as large, so the merged gradient scales; a factor c on a single
    loss lengthens it by c^{1/K} and leaves its direction. Heads keep their plain gradient; in the paper they
    are weighted too. One task alone has weight 1.

    Raises:
        ValueError: a loss that is not positive.
    """

    needs_losses: ClassVar[bool] = True

    def rows(self, tasks: Tasks) -> Float[np.ndarray, "rows tasks"]:
        """Return one row with all tasks, weighted."""
        logs = np.log(positive_losses(self, tasks))
        return np.array([np.exp(logs.mean() - logs) / len(logs)])


def positive_losses(method: object, tasks: Tasks) -> Float[np.ndarray, " tasks"]:
    """Return the losses; raise unless all are positive."""
    for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
        if loss <= 0:
            raise ValueError(
                f"{method!r} takes logarithms of losses, and that of {task!r} is {loss:g}: leave the task out"
                " of this batch, or add a constant to its loss."
            )
    return tasks.values


def losses_from_zero(method: object, tasks: Tasks) -> Float[np.ndarray, " tasks"]:
    """Return the losses; raise if one is negative."""
    for task, loss in zip(tasks.names, tasks.values.tolist(), strict=True):
        if loss < 0:
            raise ValueError(
                f"{method!r} compares the sizes of losses, and that of {task!r} is {loss:g}: add a constant"
                " to it that makes it positive."
            )
    return tasks.values


def _named_numbers(weights: object) -> None:
    """Raise unless it is a mapping of names to numbers."""
    if not isinstance(weights, Mapping) or not all(
        isinstance(task, str) and isinstance(weight, Real) for task, weight in weights.items()
    ):
        raise TypeError(
            f"weights must be a number by the name of every task, like {{'click': 1.0, 'like': 0.5}}, not"
            f" {weights!r}."
        )


def _softmax(logits: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " tasks"]:
    powers = np.exp(logits - logits.max())
    shares: Float[np.ndarray, " tasks"] = powers / powers.sum()
    return shares
