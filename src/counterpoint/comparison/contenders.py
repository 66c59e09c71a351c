"""What a comparison of recipes found: their metrics, the differences to the baseline and the costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from counterpoint.comparison.improvement import Improvement
from counterpoint.comparison.payoff import Payoff
from counterpoint.comparison.significance import Interval, SeedTest
from counterpoint.comparison.standing import Row

_MANY = 2  # rows from which on several p-values are looked at


@dataclass(frozen=True)
class Difference:
    """A recipe minus the baseline, in one metric.

    Attributes:
        interval: of the seeds' mean metric, by paired bootstrap over impressions or users.
        adjusted: its p-value after Holm; none where there is only one comparison.
        seeds: the paired t-test over seeds; none with a single one.
        seeds_adjusted: its p-value after Holm.
    """

    interval: Interval
    adjusted: float | None
    seeds: SeedTest | None
    seeds_adjusted: float | None


@dataclass(frozen=True)
class Costs:
    """What a recipe's trainings took, NaN where it was not noted.

    Attributes:
        seconds: mean wall time of a training.
        seconds_per_step: mean over the seeds of the median step.
        megabytes: peak of resident memory, the smallest over the seeds: a training inherits what earlier
            ones of the same process left.
        parameters: of the model.
        trained: those of them that were trained.
    """

    seconds: float
    seconds_per_step: float
    megabytes: float
    parameters: float
    trained: float


@dataclass(frozen=True)
class Contender:
    """One recipe of a comparison.

    Attributes:
        row: its metrics over the seeds, and those in which it does not beat every floor.
        seeds: of its runs.
        values: of each metric, one for each seed.
        limits: of each metric by unit, the 95 % interval of the seeds' mean.
        against: the difference to the baseline by metric; empty for the baseline itself.
        costs: what its trainings took.
    """

    row: Row
    seeds: Sequence[int | None]
    values: Mapping[str, Sequence[float]]
    limits: Mapping[str, tuple[float, float]]
    against: Mapping[str, Difference]
    costs: Costs


@dataclass(frozen=True)
class Comparison:
    """Several recipes on one split.

    Attributes:
        title: what is compared.
        split: where.
        metric: the one that decides.
        baseline: what all others are set against.
        simulated: whether the data is.
        unit: what is resampled, in the plural: impressions, users.
        units: of the split.
        scored: how many of them have the metric.
        contenders: the recipes, in the order given.
        floors: what they must beat, and the optimum where it is known.
        payoffs: of each multi-task recipe beside the single-task one; empty where there is none.
        improvements: of each recipe over separate networks of the same tasks; empty where there are none.
    """

    title: str
    split: str
    metric: str
    baseline: str
    simulated: bool
    unit: str
    units: int
    scored: int
    contenders: Sequence[Contender]
    floors: Sequence[Row]
    payoffs: Sequence[Payoff]
    improvements: Sequence[Improvement]

    @property
    def rows(self) -> list[Row]:
        """The recipes, then the floors."""
        return [*(contender.row for contender in self.contenders), *self.floors]

    @property
    def adjusted(self) -> bool:
        """Whether p-values are adjusted for being several."""
        return len(self.contenders) > _MANY

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON holds it."""
        return {
            "title": self.title,
            "simulated": self.simulated,
            "split": self.split,
            "unit": self.unit,
            "units": self.units,
            "scored": self.scored,
            "metric": self.metric,
            "baseline": self.baseline,
            "recipes": {each.row.name: _contender(each) for each in self.contenders},
            "floors": {
                floor.name: {metric: value.mean for metric, value in floor.values.items()}
                for floor in self.floors
            },
            "does the auxiliary task pay": [
                {**asdict(each), "gain": each.gain._asdict()} for each in self.payoffs
            ],
            "relative improvement": [each.as_dict() for each in self.improvements],
        }


def _contender(contender: Contender) -> dict[str, Any]:
    return {
        "seeds": list(contender.seeds),
        "metrics": {
            metric: {
                "mean": value.mean,
                "sd": value.spread,
                "values": list(contender.values.get(metric, ())),
                "interval": contender.limits.get(metric),
            }
            for metric, value in contender.row.values.items()
        },
        "below a floor in": sorted(contender.row.lost),
        "against the baseline": {
            metric: {
                **difference.interval._asdict(),
                "p_adjusted": difference.adjusted,
                "over seeds": None
                if difference.seeds is None
                else {**difference.seeds._asdict(), "p_adjusted": difference.seeds_adjusted},
            }
            for metric, difference in contender.against.items()
        },
        **asdict(contender.costs),
    }
