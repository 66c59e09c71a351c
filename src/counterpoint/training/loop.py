"""One loop for every workload: batches, losses, a balanced backward pass, a step."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.optim import Optimizer

from counterpoint.balance import Balancer, Report
from counterpoint.errors import CounterpointError
from counterpoint.progress import Progress, silent
from counterpoint.runs import recipe
from counterpoint.runs.folder import Run
from counterpoint.storage.files import new_folder
from counterpoint.training.checkpoint import load_checkpoint, save_checkpoint
from counterpoint.training.interfaces import Batch, Batches, TaskByTask
from counterpoint.training.log import TrainingLog
from counterpoint.training.norms import norms_by_layer
from counterpoint.training.optimizers import clip_gradients, make_optimizer, parameter_groups
from counterpoint.training.schedule import DECAYS

_MOST_NOT_FINITE = 10


class StopTraining(Exception):  # noqa: N818  # no error: whoever watches the training has seen enough
    """Raised by an observer to end the training at this validation."""


class DivergedError(CounterpointError):
    """The gradients are not finite any more."""


@dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
        best: the best validation metric; none without validation.
        best_step: the step whose model was kept.
        seconds: of training, validation and checkpoints, those of an interrupted process included as far as
            its last checkpoint.
    """

    best: float | None
    best_step: int
    seconds: float


@dataclass
class _State:
    """What the loop must remember over an interruption."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    without_progress: int = 0
    stopped: bool = False
    steps_not_finite: int = 0
    seconds: float = 0.0


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
    observe: Callable[[int, float], None] | None = None,
    accelerator: Accelerator | None = None,
    progress: Progress = silent,
) -> Fitted:
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
        observe: told the step and that metric after each validation; may raise `StopTraining`, which the last
            validation ignores.
        accelerator: device and processes.
        progress: told the steps.

    Raises:
        DivergedError: the loss is not finite ten times running.
        StopTraining: the observer did.
        CounterpointError: a file cannot be written.
    """
    accelerator = accelerator or make_accelerator()
    model.to(accelerator.device)
    optimizer = balancer.optimizer(parameter_groups(model, settings))
    loop = _Loop(
        model=model,
        batches=batches,
        settings=settings,
        balancer=balancer,
        run=run,
        target=target,
        save=save,
        validate=validate,
        metric=metric,
        observe=observe,
        accelerator=accelerator,
        optimizer=make_optimizer(model, settings) if optimizer is None else optimizer,
        balances_all=optimizer is not None,
    )
    return loop.go(progress)


def make_accelerator() -> Accelerator:
    """Return the device and the processes of ``torchrun``; without a device, processors count as one."""
    # Unless told about the processor, accelerate starts several processes there and then counts one.
    return Accelerator(cpu=not torch.accelerator.is_available())


@dataclass(eq=False, kw_only=True)
class _Loop:
    """The loop's parts together, so that each step is a short method."""

    model: Any
    batches: Batches[Batch]
    settings: recipe.Training
    balancer: Balancer
    run: Run
    target: str
    save: Callable[[Path], None]
    validate: Callable[[], dict[str, float]] | None
    metric: str
    observe: Callable[[int, float], None] | None
    accelerator: Accelerator
    optimizer: Optimizer
    balances_all: bool
    """Whether the balancer is an optimizer too: it takes all parameters, and its steps are not clipped."""

    def __post_init__(self) -> None:
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.per_epoch = len(self.batches)
        self.total = self.settings.epochs * self.per_epoch
        self.state = _State()
        self.not_finite_running = 0
        self.parts = Counter[str]()  # of each task in this step

    def go(self, progress: Progress) -> Fitted:
        """Take all steps that are left."""
        restored = load_checkpoint(self.run.files.checkpoints, self.model, self.optimizer)
        of_log: dict[str, dict[str, Any]] = {}
        if restored is not None:
            known = {each.name for each in fields(_State)}
            of_loop = {name: value for name, value in restored[0].items() if name in known}
            of_log = {name: value for name, value in restored[0].items() if name not in known}
            self.state = _State(**of_loop)
            self.balancer.load_state_dict(restored[1])
        self.started = time.monotonic() - self.state.seconds
        writes = self.accelerator.is_main_process
        if writes:
            for (
                leftover
            ) in self.run.files.unfinished_models():  # of a process that died while it wrote the model
                shutil.rmtree(leftover)
        with closing(
            TrainingLog(
                self.run,
                every=self.settings.log_every,
                per_epoch=self.per_epoch,
                total=self.total,
                state=of_log,
                writes=writes,
            )
        ) as self.log:
            self.model.train()
            progress("training", self.state.step, self.total)
            while self.state.step < self.total and not self.state.stopped:
                self._step()
                step, epoch_ends = self.state.step, self.state.step % self.per_epoch == 0
                progress("training", step, self.total)
                every = self.settings.validate_every
                if (step % every == 0 if every else epoch_ends) or step == self.total:
                    self._validate()
                if step % self.settings.checkpoint_every == 0 or epoch_ends or self.state.stopped:
                    self._checkpoint()
        return Fitted(self.state.best, self.state.best_step, time.monotonic() - self.started)

    def _step(self) -> None:
        """Take one step; one whose gradients are not finite is left out and counted."""
        begun = time.monotonic()
        state = self.state
        # Dropout follows from the place in the training alone, so there are no generators to restore.
        torch.manual_seed(_mixed(self.settings.seed, state.step, self.accelerator.process_index))
        factor = DECAYS[self.settings.decay](state.step, self.total, self.settings.warmup)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        shared = list(self.model.parameters() if self.balances_all else self.model.shared_parameters())
        report = self._backward(shared)
        limit = self.settings.clip_norm
        largest = math.inf if limit is None or self.balances_all else limit
        norm = clip_gradients(self.model.parameters(), largest)
        if report.finite and math.isfinite(norm):
            self.optimizer.step()
            self.not_finite_running = 0
        else:
            state.steps_not_finite += 1
            self.not_finite_running += 1
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        self.log.stepped(
            state.step,
            report,
            {task: parts / self.settings.accumulate for task, parts in self.parts.items()},
            norms_by_layer(report, self.model, shared),
            seconds=time.monotonic() - begun,
            facts={
                "learning_rate": self.settings.learning_rate * factor,
                "steps_not_finite": state.steps_not_finite,
            },
        )
        if self.not_finite_running == _MOST_NOT_FINITE:
            raise DivergedError(
                f"{self.run.path}: {_MOST_NOT_FINITE} steps running gave gradients that are not finite "
                f"(up to step {state.step}); lower training.learning_rate or set training.precision=fp32."
            )

    def _backward(self, shared: list[nn.Parameter]) -> Report:
        """Fill the gradients: of all tasks at once, or share by share and part by part, merged at the end."""
        every, several = self.settings.diagnose_every, self.settings.accumulate
        self.parts.clear()
        diagnose = every is not None and self.state.step % every == 0
        heads = list(self.model.parameters())
        for batch in self._shares():
            self.log.examples += len(batch) * self.accelerator.num_processes
            if several == 1 and not isinstance(batch, TaskByTask):
                losses = self.model.losses(batch)
                self.parts.update(losses.keys())
                return self.balancer.backward(
                    losses, shared=shared, heads=heads, target=self.target, diagnose=diagnose
                )
            for part in batch.parts() if isinstance(batch, TaskByTask) else (batch,):
                losses = {task: loss / several for task, loss in self.model.losses(part).items()}
                self.parts.update(losses.keys())
                self.balancer.accumulate(losses, shared=shared, heads=heads)
        return self.balancer.merge(target=self.target, diagnose=diagnose)

    def _shares(self) -> Iterator[Batch]:
        """Yield this process's share of the step's batch, divided again where gradients accumulate.

        Shares are equally large, so that the mean of their gradients is the batch's.
        """
        epoch, number = divmod(self.state.step, self.per_epoch)
        several = self.settings.accumulate
        first = self.accelerator.process_index * several
        processes = self.accelerator.num_processes * several
        for rank in range(first, first + several):
            batch = self.batches.batch(epoch, number, rank=rank, processes=processes)
            yield batch.to(self.accelerator.device)

    def _validate(self) -> None:
        """Validate; keep the model if none is known to be better, stop if there is no progress."""
        state = self.state
        # All processes follow the first one's numbers, or they could part over a rounding.
        metrics = broadcast_object_list([self.validate() if self.validate else {}])[0]
        value = metrics.get(self.metric, math.nan)
        self.log.validated(state.step, metrics)
        if state.best is None or value > state.best:
            state.best, state.best_step = (None if math.isnan(value) else value), state.step
            state.without_progress = 0
            if self.accelerator.is_main_process:
                with new_folder(self.run.files.model.path) as folder:
                    self.save(folder)
        else:
            state.without_progress += 1
            state.stopped = state.without_progress == self.settings.patience
        if self.observe and not math.isnan(value):
            try:
                self.observe(state.step, value)
            except StopTraining:
                if state.step < self.total and not state.stopped:  # otherwise it has ended by itself
                    raise
        self.log.pause()

    def _checkpoint(self) -> None:
        """Write a checkpoint from the first process."""
        self.state.seconds = time.monotonic() - self.started
        if self.accelerator.is_main_process:
            folder, state = self.run.files.checkpoints, {**vars(self.state), **self.log.state()}
            save_checkpoint(folder, self.model, self.optimizer, self.balancer.state_dict(), state)
        self.accelerator.wait_for_everyone()


def _mixed(*numbers: int) -> int:
    """Return a seed that differs wherever one of ``numbers`` does."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
