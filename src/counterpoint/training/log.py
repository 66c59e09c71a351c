"""A run's two logs, of one JSON object a line, that can be cut back to where a checkpoint was made."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.balance import Report
from counterpoint.runs.folder import Run
from counterpoint.storage.files import disk_errors

LOG_EVERY = 10


class TrainingLog:
    """The logs of a training: the balancing of its steps, and the mean losses of ten times as many.

    A loss is a mean over the batches of its task: a step may have none of it, or several.

    Args:
        run: in whose folder they stand.
        every: steps between lines of the balance log.
        per_epoch: steps in an epoch.
        total: steps in all.
        state: what `state` told at the checkpoint that training goes on from; nothing at its beginning.
        writes: whether this process writes; others only keep count.
    """

    def __init__(
        self,
        run: Run,
        *,
        every: int,
        per_epoch: int,
        total: int,
        state: Mapping[str, dict[str, Any]],
        writes: bool,
    ) -> None:
        self._every, self._per_epoch, self._total = every, per_epoch, total
        self._summed: dict[str, float] = dict(state.get("summed", {}))
        self._summed_steps: dict[str, float] = dict(state.get("summed_steps", {}))
        sizes = state.get("log_sizes", {})
        files = {"metrics": run.files.metrics, "balance": run.files.balance} if writes else {}
        self._logs = {name: JsonLog(file, sizes.get(name, 0)) for name, file in files.items()}
        self._durations: list[float] = []
        self.pause()

    def pause(self) -> None:
        """Let the clock begin anew: what was done since is no training."""
        self._clock, self.examples = time.monotonic(), 0

    def stepped(
        self,
        step: int,
        report: Report,
        batches: Mapping[str, float],
        layers: Mapping[str, Mapping[str, float]],
        *,
        seconds: float,
        facts: Mapping[str, float],
    ) -> None:
        """Log a step.

        Args:
            step: its number, from 1.
            report: of its balancing.
            batches: how many of each task it had.
            layers: norms by layer, if they were looked at: then the step is logged whatever its number.
            seconds: that it took.
            facts: what else a line of the metrics tells.
        """
        if report.finite:
            for task, loss in zip(report.tasks, report.losses.tolist(), strict=True):
                self._summed[task] = self._summed.get(task, 0.0) + loss
                self._summed_steps[task] = self._summed_steps.get(task, 0.0) + batches.get(task, 0.0)
        self._durations.append(seconds)
        if (step - 1) % self._every == 0 or layers:
            self._write("balance", {"step": step, **report.as_dict(), **layers})
        if step % (LOG_EVERY * self._every) == 0 or step == self._total:
            elapsed = max(time.monotonic() - self._clock, 1e-9)
            means = {task: total / self._summed_steps[task] for task, total in self._summed.items()}
            self._write(
                "metrics",
                {
                    "step": step,
                    "epoch": step / self._per_epoch,
                    "losses": means,
                    **facts,
                    "examples_per_second": self.examples / elapsed,
                    "seconds_per_step": float(np.median(self._durations)),
                },
            )
            self._summed, self._summed_steps, self._durations = {}, {}, []
            self.pause()

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log a validation, if there was one; the clock begins anew."""
        if metrics:
            self._write("metrics", {"step": step, "epoch": step / self._per_epoch, "validation": metrics})
        self.pause()

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint must keep: how long the logs are, and what is summed for the next line."""
        return {
            "log_sizes": {name: log.size() for name, log in self._logs.items()},
            "summed": self._summed,
            "summed_steps": self._summed_steps,
        }

    def close(self) -> None:
        """Finish the files."""
        for log in self._logs.values():
            log.close()

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        if name in self._logs:
            self._logs[name].write(entry)


class JsonLog:
    """An append-only log.

    Args:
        path: its file.
        size: keep this many bytes of an older log and drop the rest.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._path = path
        with disk_errors(path):
            path.touch()
            os.truncate(path, min(size, path.stat().st_size))
            # Line by line, so that a killed process leaves whole lines.
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line; a number that is not finite is written as null."""
        with disk_errors(self._path):
            self._file.write(json.dumps(_finite(entry)) + "\n")

    def size(self) -> int:
        """Return the number of bytes in the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Finish the file."""
        with disk_errors(self._path):
            self._file.close()


def _finite(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _finite(value) for key, value in entry.items()}
    if isinstance(entry, float):
        return float(f"{entry:.7g}") if math.isfinite(entry) else None
    return entry
