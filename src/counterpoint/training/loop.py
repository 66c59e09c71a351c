"""One loop for every workload: batches, losses, a balanced backward pass, a step."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from counterpoint import recipe
from counterpoint.balance import Balancer, Report
from counterpoint.errors import CounterpointError
from counterpoint.files import new_folder
from counterpoint.progress import Progress, silent
from counterpoint.run import Run
from counterpoint.training.checkpoint import load_checkpoint, save_checkpoint
from counterpoint.training.log import JsonLog
from counterpoint.training.schedule import linear_decay

LOG_EVERY = 10


class Batch(Protocol):
    """What a model computes its losses from."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on ``device``."""
        ...

    def __len__(self) -> int:
        """Examples in the batch."""
        ...


Yielded = TypeVar("Yielded", bound=Batch, covariant=True)


class Batches(Protocol[Yielded]):
    """The batches of an epoch; each is a function of its place, so training can go on anywhere."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def batch(self, epoch: int, number: int, *, rank: int = 0, processes: int = 1) -> Yielded:
        """Return a batch, or one process's share of it."""
        ...


class Model(Protocol):
    """What the loop needs of a model beside being a module."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss of each task."""
        ...

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the tasks share."""
        ...


@dataclass
class _State:
    """What the loop must remember over an interruption."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    without_progress: int = 0
    stopped: bool = False
    steps_not_finite: int = 0
    log_sizes: dict[str, int] = field(default_factory=dict)
    summed: dict[str, float] = field(default_factory=dict)
    examples: int = 0


def fit(
    model: nn.Module,
    batches: Batches[Batch],
    settings: recipe.Training,
    balancer: Balancer,
    run: Run,
    *,
    target: str,
    save: Callable[[Path], None],
    validate: Callable[[], dict[str, float]] | None = None,
    metric: str = "",
    accelerator: Accelerator | None = None,
    progress: Progress = silent,
) -> None:
    """Train until the epochs are over or validation stops improving; go on from a checkpoint if there is one.

    The best model by validation stands in the run's ``model`` folder from the first validation on. The run's
    logs are cut back to the checkpoint that training goes on from.

    Args:
        model: a module with ``losses`` and ``shared_parameters``.
        batches: its batches.
        settings: the recipe's training section.
        balancer: makes one gradient of the tasks' gradients.
        run: the run folder.
        target: the target task.
        save: writes the model into a folder.
        validate: returns validation metrics; without it the last model is kept.
        metric: the one that decides, the higher the better.
        accelerator: device and processes.
        progress: told the steps.

    Raises:
        CounterpointError: the loss is not finite ten times running, or a file cannot be written.
    """
    accelerator = accelerator or Accelerator()
    model.to(accelerator.device)
    optimizer = make_optimizer(model, settings)
    loop = _Loop(model, batches, settings, balancer, run, target, save, validate, metric, accelerator, optimizer)
    loop.go(progress)


def make_optimizer(model: Any, settings: recipe.Training) -> Optimizer:
    """Return Adam or AdamW; biases and norms do not decay, shared parameters have a rate of their own."""
    shared = {id(parameter) for parameter in model.shared_parameters()}
    heads = settings.head_learning_rate or settings.learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in shared, parameter.ndim > 1), []).append(parameter)
    kind = {"adam": Adam, "adamw": AdamW}[settings.optimizer]
    return kind(
        [
            {
                "params": parameters,
                "lr": settings.learning_rate if common else heads,
                "weight_decay": settings.weight_decay if matrix else 0.0,
            }
            for (common, matrix), parameters in groups.items()
        ],
        fused=True,
    )


class _Loop:
    """The loop's parts together, so that each step is a short method."""

    def __init__(
        self,
        model: Any,
        batches: Batches[Batch],
        settings: recipe.Training,
        balancer: Balancer,
        run: Run,
        target: str,
        save: Callable[[Path], None],
        validate: Callable[[], dict[str, float]] | None,
        metric: str,
        accelerator: Accelerator,
        optimizer: Optimizer,
    ) -> None:
        self.model, self.batches, self.settings, self.balancer = model, batches, settings, balancer
        self.run, self.target, self.save, self.validate, self.metric = run, target, save, validate, metric
        self.accelerator, self.optimizer = accelerator, optimizer
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.main = accelerator.is_main_process
        self.state = _State()
        self.not_finite_running = 0

    def go(self, progress: Progress) -> None:
        """Take all steps that are left."""
        restored = load_checkpoint(self.run.path / "checkpoints", self.model, self.optimizer)
        if restored is not None:
            self.state = _State(**restored[0])
            self.balancer.load_state_dict(restored[1])
        sizes = self.state.log_sizes
        if self.main:
            self.metrics = JsonLog(self.run.path / "metrics.jsonl", sizes.get("metrics", 0))
            self.balance = JsonLog(self.run.path / "balance.jsonl", sizes.get("balance", 0))
        per_epoch = len(self.batches)
        total = self.settings.epochs * per_epoch
        self.clock, self.since = time.monotonic(), 0
        self.model.train()
        progress("training", self.state.step, total)
        while self.state.step < total and not self.state.stopped:
            self._step(*divmod(self.state.step, per_epoch), total)
            step, epoch_ends = self.state.step, self.state.step % per_epoch == 0
            progress("training", step, total)
            every = self.settings.validate_every
            if (step % every == 0 if every else epoch_ends) or step == total:
                self._validate(step / per_epoch)
            if step % self.settings.checkpoint_every == 0 or epoch_ends or self.state.stopped:
                self._checkpoint()
        if self.main:
            self.metrics.close()
            self.balance.close()

    def _step(self, epoch: int, number: int, total: int) -> None:
        """Take one step; one whose gradients are not finite is left out and counted."""
        state, accelerator = self.state, self.accelerator
        rank, processes = accelerator.process_index, accelerator.num_processes
        batch = self.batches.batch(epoch, number, rank=rank, processes=processes).to(accelerator.device)
        factor = linear_decay(state.step, total, self.settings.warmup)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        report = self.balancer.backward(
            self.model.losses(batch), shared=self.model.shared_parameters(), target=self.target
        )
        if report.finite:
            if self.settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
            self.not_finite_running = 0
        else:
            state.steps_not_finite += 1
            self.not_finite_running += 1
            if self.not_finite_running == 10:
                raise CounterpointError(
                    f"{self.run.path}: ten steps running gave gradients that are not finite (step {state.step}); "
                    "lower training.learning_rate or set training.precision=fp32."
                )
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.examples += len(batch)
        self.since += len(batch)
        self._log(report, (epoch + (number + 1) / len(self.batches)), factor)

    def _log(self, report: Report, epoch: float, factor: float) -> None:
        """Write the balancing of every step, and the mean losses of every few."""
        step = self.state.step
        entry = report.as_dict()
        summed = Counter(self.state.summed)
        summed.update({"steps": 1, **entry["losses"]})
        self.state.summed = dict(summed)
        if self.main:
            self.balance.write({"step": step, **entry})
        if step % LOG_EVERY == 0:
            steps = self.state.summed.pop("steps")
            elapsed = max(time.monotonic() - self.clock, 1e-9)
            if self.main:
                self.metrics.write(
                    {
                        "step": step,
                        "epoch": epoch,
                        "losses": {task: value / steps for task, value in self.state.summed.items()},
                        "learning_rate": self.settings.learning_rate * factor,
                        "examples_per_second": self.since * self.accelerator.num_processes / elapsed,
                    }
                )
            self.state.summed = {}
            self.clock, self.since = time.monotonic(), 0

    def _validate(self, epoch: float) -> None:
        """Validate; keep the model if it is the best so far, stop if there is no progress."""
        state = self.state
        metrics = self.validate() if self.validate else {}
        value = metrics.get(self.metric, math.nan)
        if self.main and metrics:
            self.metrics.write({"step": state.step, "epoch": epoch, "validation": metrics})
        if math.isnan(value) or state.best is None or value > state.best:
            state.best, state.best_step = (None if math.isnan(value) else value), state.step
            state.without_progress = 0
            if self.main:
                with new_folder(self.run.path / "model") as folder:
                    self.save(folder)
        else:
            state.without_progress += 1
            state.stopped = state.without_progress == self.settings.patience
        self.clock, self.since = time.monotonic(), 0

    def _checkpoint(self) -> None:
        """Write a checkpoint from the first process."""
        if self.main:
            self.state.log_sizes = {"metrics": self.metrics.size(), "balance": self.balance.size()}
            folder = self.run.path / "checkpoints"
            save_checkpoint(folder, self.model, self.optimizer, self.balancer.state_dict(), vars(self.state))
        self.accelerator.wait_for_everyone()
