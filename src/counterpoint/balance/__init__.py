"""Gradient balancing for several tasks over shared parameters; works alone with any PyTorch training loop.

balancer = balance.make("mtrec", scale=0.3)
report = balancer.backward({"click": l0, "category": l1}, shared=trunk.parameters(), target="click")
optimizer.step()
"""

from counterpoint.balance.block_balancer import BlockBalancer
from counterpoint.balance.coordinates import CoordinateBalancer
from counterpoint.balance.engine import Balancer
from counterpoint.balance.lookup import available, make
from counterpoint.balance.report import Report
from counterpoint.balance.step import Step, Tasks
from counterpoint.balance.target_first import TargetFirst

# isort: split
# A file in methods/ may import all of the above from here, as one in somebody else's package does.
from counterpoint.balance import methods
from counterpoint.balance.methods import *  # noqa: F403
from counterpoint.balance.methods.chain import chain

__all__ = [
    "Balancer",
    "BlockBalancer",
    "CoordinateBalancer",
    "Report",
    "Step",
    "TargetFirst",
    "Tasks",
    "available",
    "chain",
    "make",
]
__all__ += methods.__all__
