"""Torch's optimizers, made to move the rows of embedding tables that a batch touched, and no others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Adagrad, Adam, AdamW, Optimizer, RMSprop

from counterpoint.runs import recipe

_KINDS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    # Not all devices have a fused Adagrad, and none has a fused RMSprop.
    "adagrad": partial(Adagrad, foreach=True),
    "rmsprop": partial(RMSprop, foreach=True),
}


def make_optimizer(model: Any, settings: recipe.Training) -> Optimizer:
    """Return the recipe's optimizer, for `parameter_groups`.

    Tables whose gradients are sparse are moved by the rows touched: `move_touched_rows`.
    """
    optimizer = _KINDS[settings.optimizer](parameter_groups(model, settings))
    move_touched_rows(optimizer)
    return optimizer


def parameter_groups(model: Any, settings: recipe.Training) -> list[dict[str, Any]]:
    """Return the parameters with the recipe's rates and decay, as any optimizer takes them.

    Biases and norms do not decay; shared parameters have their own rate.
    """
    shared = {id(parameter) for parameter in model.shared_parameters()}
    heads = settings.head_learning_rate or settings.learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in shared, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate if common else heads,
            "weight_decay": settings.weight_decay if matrix else 0.0,
        }
        for (common, matrix), parameters in groups.items()
    ]


def move_touched_rows(optimizer: Optimizer) -> None:
    """Let an optimizer take gradients that are sparse by rows, as `nn.Embedding(sparse=True)` makes them.

    At each step, the rows that the gradient holds and the optimizer's moments of these rows are put together
    in small dense tensors, take torch's own step there and go back to their places. Time and working memory
    of a step grow with the rows touched instead of with the table; the moments are as large as the table. A
    batch that touches every row takes the dense step.

    A row that the batch has not touched keeps its value and its moments: lazy updates, as those of
    `torch.optim.SparseAdam`. The dense optimizers take such a row's gradient for zero instead: Adam, AdamW
    and RMSProp let its moments decay, Adam and AdamW move it on by what is left of the first one, and weight
    decay goes on. Adagrad without weight decay is the same both ways. Adam's bias correction goes by the
    steps that the whole table has taken, as in the dense case.

    Parameters with a dense gradient are left to the optimizer as they are. A closure given to ``step`` comes
    too late to be seen here, and after a step that raised an error the optimizer is not to be used again.
    """
    rows = _TouchedRows([])
    optimizer.register_step_pre_hook(rows.gather)
    optimizer.register_step_post_hook(rows.scatter)


def clip_gradients(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most ``largest``; return the norm they had.

    As `torch.nn.utils.clip_grad_norm_`, for gradients that are sparse by rows as well.
    """
    return nn.utils.clip_grad_norm_([_dense_stand_in(parameter) for parameter in parameters], largest)


def _dense_stand_in(parameter: Tensor) -> Tensor:
    """Return a tensor whose gradient is dense and has the memory of the parameter's: the rows it holds."""
    if not _is_sparse_by_rows(parameter):
        return parameter
    parameter.grad = parameter.grad.coalesce()  # type: ignore[union-attr]
    values = parameter.grad.values()
    stand_in = values.detach()
    stand_in.grad = values
    return stand_in


def _is_sparse_by_rows(parameter: Tensor) -> bool:
    gradient = parameter.grad
    return gradient is not None and gradient.is_sparse and gradient.sparse_dim() == 1


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a table that stand in its place in a parameter group during a step."""

    table: Tensor
    ids: Int[Tensor, " touched"]
    values: Float[Tensor, "touched width"]
    group: list[Tensor]
    place: int

    def to_table(self, rows: Tensor, table: Tensor | None) -> Tensor:
        """Return a table with these rows in their places; a new one is zero elsewhere."""
        table = torch.zeros_like(self.table) if table is None else table
        return table.index_copy_(0, self.ids, rows)


@dataclass(eq=False)
class _TouchedRows:
    """The hooks around an optimizer's step."""

    moved: list[_Rows]

    @torch.no_grad()
    def gather(self, optimizer: Optimizer, *_: Any) -> None:
        """Put the touched rows in the places of their tables."""
        for group in optimizer.param_groups:
            for place, table in enumerate(group["params"]):
                if not _is_sparse_by_rows(table):
                    continue
                gradient = table.grad.coalesce()
                ids = gradient.indices()[0]
                values = table.index_select(0, ids)
                values.grad = gradient.values()
                if table in optimizer.state:
                    optimizer.state[values] = {
                        name: each.index_select(0, ids) if _is_of_rows(each) else each
                        for name, each in optimizer.state[table].items()
                    }
                group["params"][place] = values
                self.moved.append(_Rows(table, ids, values, group["params"], place))

    @torch.no_grad()
    def scatter(self, optimizer: Optimizer, *_: Any) -> None:
        """Write the rows and their moments back."""
        for rows in self.moved:
            rows.group[rows.place] = rows.table
            rows.to_table(rows.values, rows.table)
            of_table = optimizer.state[rows.table]
            # Moments that the optimizer has just begun are zero for all other rows.
            for name, each in optimizer.state.pop(rows.values).items():
                of_table[name] = rows.to_table(each, of_table.get(name)) if _is_of_rows(each) else each
        self.moved.clear()


def _is_of_rows(moment: Any) -> bool:
    """Return whether a part of an optimizer's state has a value for each row; the count of steps has not."""
    return isinstance(moment, Tensor) and moment.ndim > 0
