"""Levels of experts and what tasks take of them: shared-bottom, MMoE and PLE differ by numbers alone."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.feedback.models.experts import Experts, Fill, MLPExperts

States = Float[Tensor, "rows width"]


class Extraction(nn.Module):
    """Progressive layered extraction (Tang et al., RecSys 2020): levels of shared experts and of own ones.

    At every level each task mixes the shared experts and its own ones, by a gate of its own; below the last
    level another gate mixes all experts of all tasks into what the shared experts of the next level take. At
    the last level nothing would take it, so there is no such gate. One level is CGC; without own experts it
    is MMoE (Ma et al., KDD 2018); with one shared expert and no own ones a shared bottom, and without shared
    experts every task stands alone above the fields. What is mixed of one expert alone needs no gate.

    Every task's own experts are stacked by themselves, so that a pass backward from one task's loss does not
    go through the others' experts.

    Args:
        tasks: how many.
        inputs: numbers that the lowest level takes.
        shared: shared experts of each level.
        own: own experts of each task and level.
        lowest: makes that many experts of the lowest level.
        widths: of the layers of the experts above.
        levels: how many.
        dropout: after each of these layers.
        fill: first weights of these layers and of gates.

    Attributes:
        outputs: numbers that each task gets.
    """

    def __init__(
        self,
        tasks: int,
        inputs: int,
        *,
        shared: int,
        own: int,
        lowest: Callable[[int], Experts],
        widths: Sequence[int],
        levels: int,
        dropout: float,
        fill: Fill,
    ) -> None:
        super().__init__()
        self.tasks, self.outputs = tasks, inputs
        self.levels = nn.ModuleList()
        make = lowest
        for above in reversed(range(levels)):
            level = Level(tasks, self.outputs, shared=shared, own=own, make=make, last=not above, fill=fill)
            self.levels.append(level)
            self.outputs = level.outputs
            make = _mlps(self.outputs, widths, dropout, fill)

    def forward(self, inputs: States) -> list[States]:
        """Return what each task takes of the last level."""
        common, mixtures = inputs, [inputs] * self.tasks
        for level in self.levels:
            common, mixtures = level(common, mixtures)
        return mixtures


class Level(nn.Module):
    """One level of experts: customized gate control.

    Args:
        tasks: how many.
        inputs: numbers that experts and gates take.
        shared: how many shared experts there are.
        own: how many own experts each task has.
        make: makes that many experts.
        last: whether there is no level above.
        fill: first weights of gates.

    Attributes:
        outputs: numbers that each task gets.
    """

    def __init__(
        self,
        tasks: int,
        inputs: int,
        *,
        shared: int,
        own: int,
        make: Callable[[int], Experts],
        last: bool,
        fill: Fill,
    ) -> None:
        super().__init__()
        self.shared = make(shared) if shared else None
        of_tasks = [make(own) for _ in range(tasks if own else 0)]
        self.own = nn.ModuleList(of_tasks)
        self.gates = nn.ModuleList(Gate(inputs, own + shared, fill) for _ in range(tasks))
        self.common_gate = None if last or not shared else Gate(inputs, tasks * own + shared, fill)
        self.outputs = (self.shared or of_tasks[0]).outputs

    def forward(self, common: States, of_tasks: Sequence[States]) -> tuple[States, list[States]]:
        """Return what the level above takes: for its shared experts, and for each task.

        Args:
            common: what the shared experts take.
            of_tasks: what each task's experts and gate take.
        """
        shared = [] if self.shared is None else [self.shared(common)]
        own = [experts(states) for experts, states in zip(self.own, of_tasks, strict=False)]
        mixtures = [
            gate(states, _together([*own[task : task + 1], *shared]))
            for task, (gate, states) in enumerate(zip(self.gates, of_tasks, strict=True))
        ]
        if self.common_gate is not None:
            common = self.common_gate(common, _together([*own, *shared]))
        return common, mixtures


class Gate(nn.Module):
    """Mixes experts: g = softmax(W x), then Σ_e g_e expert_e; of one expert there is nothing to choose.

    Args:
        inputs: numbers that the choice depends on.
        experts: how many there are to mix.
        fill: first values of W.
    """

    def __init__(self, inputs: int, experts: int, fill: Fill) -> None:
        super().__init__()
        self.choice = nn.Linear(inputs, experts, bias=False) if experts > 1 else None
        if self.choice is not None:
            fill(self.choice.weight.detach())

    def forward(self, states: States, experts: Float[Tensor, "experts rows width"]) -> States:
        """Return the mixture."""
        if self.choice is None:
            return experts[0]
        shares = self.choice(states).softmax(dim=1)
        mixture: States = (shares.T[:, :, None] * experts).sum(dim=0)
        return mixture


def _together(
    experts: Sequence[Float[Tensor, "some rows width"]],
) -> Float[Tensor, "experts rows width"]:
    """Return experts one below another; what is there already is not copied."""
    return experts[0] if len(experts) == 1 else torch.cat([*experts])


def _mlps(inputs: int, widths: Sequence[int], dropout: float, fill: Fill) -> Callable[[int], Experts]:
    return lambda experts: MLPExperts(experts, inputs, widths, dropout, fill)
