"""Gradient balancing for several tasks over shared parameters; works alone with any PyTorch training loop.

balancer = balance.make("mtrec", scale=0.3)
report = balancer.backward({"click": l0, "category": l1}, shared=trunk.parameters(), target="click")
optimizer.step()
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from counterpoint.balance import checks
from counterpoint.balance.auxiliaries import MetaBalance, OLAux
from counterpoint.balance.batch import Step, Tasks
from counterpoint.balance.blocks import BlockBalancer, TargetFirst
from counterpoint.balance.chain import chain
from counterpoint.balance.coordinates import CoordinateBalancer, GradDrop
from counterpoint.balance.directions import GradCraft, GradVac, PCGrad, PCGradPlus
from counterpoint.balance.engine import Balancer
from counterpoint.balance.fairness import AlignedMTL, ConFIG, FairGrad, NashMTL
from counterpoint.balance.losses import (
    DWA,
    FAMO,
    STCH,
    Equal,
    Fixed,
    GeometricMean,
    RandomLossWeighting,
    Uncertainty,
)
from counterpoint.balance.magnitudes import IMTL, GradNorm
from counterpoint.balance.moments import DBMTL, MTAdam
from counterpoint.balance.pareto import MGDA, PCD, CAGrad, UPGrad
from counterpoint.balance.report import Report
from counterpoint.balance.targets import GradSimilarity, GradSurgery, MTRec, Single

__all__ = [
    "DBMTL",
    "DWA",
    "FAMO",
    "IMTL",
    "MGDA",
    "PCD",
    "STCH",
    "AlignedMTL",
    "Balancer",
    "BlockBalancer",
    "CAGrad",
    "ConFIG",
    "CoordinateBalancer",
    "Equal",
    "FairGrad",
    "Fixed",
    "GeometricMean",
    "GradCraft",
    "GradDrop",
    "GradNorm",
    "GradSimilarity",
    "GradSurgery",
    "GradVac",
    "MTAdam",
    "MTRec",
    "MetaBalance",
    "NashMTL",
    "OLAux",
    "PCGrad",
    "PCGradPlus",
    "RandomLossWeighting",
    "Report",
    "Single",
    "Step",
    "TargetFirst",
    "Tasks",
    "UPGrad",
    "Uncertainty",
    "available",
    "chain",
    "make",
]

_METHODS: dict[str, Callable[..., Balancer]] = {
    "aligned_mtl": AlignedMTL,
    "cagrad": CAGrad,
    "chain": chain,
    "config": ConFIG,
    "db_mtl": DBMTL,
    "dwa": DWA,
    "equal": Equal,
    "fairgrad": FairGrad,
    "famo": FAMO,
    "fixed": Fixed,
    "geometric_mean": GeometricMean,
    "grad_similarity": GradSimilarity,
    "grad_surgery": GradSurgery,
    "gradcraft": GradCraft,
    "graddrop": GradDrop,
    "gradnorm": GradNorm,
    "gradvac": GradVac,
    "imtl": IMTL,
    "metabalance": MetaBalance,
    "mgda": MGDA,
    "mtadam": MTAdam,
    "mtrec": MTRec,
    "nash_mtl": NashMTL,
    "ol_aux": OLAux,
    "pcd": PCD,
    "pcgrad": PCGrad,
    "pcgrad_plus": PCGradPlus,
    "random_loss_weighting": RandomLossWeighting,
    "single": Single,
    "stch": STCH,
    "uncertainty": Uncertainty,
    "upgrad": UPGrad,
}


def available() -> tuple[str, ...]:
    """Return the names `make` knows, in alphabetical order."""
    return tuple(sorted(_METHODS))


def make(name: str, **options: Any) -> Balancer:
    """Return a new balancer by name: `make("mtrec", scale=0.3)` is `MTRec(scale=0.3)`.

    A member of a chain may be a table, as in a recipe: `make("chain", first={"method": "metabalance"}, …)`.

    Raises:
        ValueError: an unknown name, or an option out of range.
        TypeError: an option that the method does not have, or lacks.
    """
    if name not in _METHODS:
        raise ValueError(
            f"There is no method {name!r}{checks.near(name, _METHODS)}; there are {', '.join(available())}."
        )
    method = _METHODS[name]
    parameters = inspect.signature(method).parameters
    for option in options:
        if option not in parameters:
            has = ", ".join(parameters) or "no options"
            raise TypeError(
                f"{name!r} has no option {option!r}{checks.near(option, parameters)}; it has {has}."
            )
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise TypeError(f"{name!r} needs the option {option!r}.")
    return method(**{option: _member(value) for option, value in options.items()})


def _member(value: Any) -> Any:
    """Return the balancer that a table with a method describes; anything else as it is."""
    if not isinstance(value, Mapping) or not isinstance(value.get("method"), str):
        return value
    return make(value["method"], **{key: each for key, each in value.items() if key != "method"})
