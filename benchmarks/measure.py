"""Timing variants side by side and printing ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """How many times faster (or, for overheads, slower) something is than its baseline."""

    what: str
    against: str
    value: float
    target: float
    at_least: bool = True

    def __str__(self) -> str:
        met = self.value >= self.target if self.at_least else self.value <= self.target
        bound = "at least" if self.at_least else "at most"
        verdict = "met" if met else "MISSED"
        ratio = f"{self.value:9.2f}x   {bound} {self.target:g}x: {verdict:6}"
        return f"{self.what:44} {ratio}   against {self.against}"


def interleaved(variants: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Return the median seconds of each variant; they take turns: drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        variant()
    for _ in range(rounds):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
