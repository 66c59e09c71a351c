"""Timing variants side by side and printing ratios."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ratio:
    """How many times faster (or, for overheads, slower) something is than its baseline.

    Attributes:
        what: is measured.
        against: what it is measured.
        value: the ratio, or a value of another `unit`.
        target: what the value is to be,
        at_least: or at most.
        unit: of value and target.
        beside: what else was measured, to be printed with it.
    """

    what: str
    against: str
    value: float
    target: float
    at_least: bool = True
    unit: str = "x"
    beside: str = ""

    def __str__(self) -> str:
        met = self.value >= self.target if self.at_least else self.value <= self.target
        bound = "at least" if self.at_least else "at most"
        verdict = "met" if met else "MISSED"
        ratio = f"{self.value:9.2f}{self.unit}   {bound} {self.target:g}{self.unit}: {verdict:6}"
        beside = f"; {self.beside}" if self.beside else ""
        return f"{self.what:44} {ratio}   against {self.against}{beside}"


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each variant; they take turns: drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        variant()
    for _ in range(rounds):
        for name, variant in variants.items():
            seconds[name].append(_seconds(variant, clock))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def ratios(
    baseline: Callable[[], object],
    variants: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median ratio of each variant to the baseline, which has a turn before and after it."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for each in (*variants.values(), baseline):
        each()
    before = _seconds(baseline, clock)
    for _ in range(rounds):
        for name, variant in variants.items():
            seconds, after = _seconds(variant, clock), _seconds(baseline, clock)
            taken[name].append(2 * seconds / (before + after))
            before = after
    return {name: statistics.median(of_rounds) for name, of_rounds in taken.items()}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch work on so many threads; CPU time counts their waiting for each other, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(variant: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    variant()
    return clock() - start
