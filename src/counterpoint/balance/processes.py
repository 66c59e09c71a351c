"""Several processes: make sure they do the same step, and average their gradients."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.balance.rows import Gradient, Row, Touched

_BUCKET_BYTES = 25 * 2**20
_SAME_PARAMETERS = (
    "begin with the same values on all, and give shared=… and heads=… in a fixed order such as"
    " model.parameters() has"
)
_ABSENT, _TOUCHED, _DENSE, _SPARSE = range(4)


def several() -> bool:
    """Return whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def number() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if several() else 1


def agree(what: str, mine: Sequence[object], remedy: str = "") -> None:
    """Raise `ValueError` on every rank when `mine` differs between ranks."""
    digest = zlib.crc32(repr(list(mine)).encode())
    extremes = torch.tensor([digest, -digest], device=_device())
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    if extremes[0] == -extremes[1]:
        return
    every: list[list[object]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, list(mine))
    place = next(place for place, each in enumerate(zip_longest(*every)) if len(set(map(repr, each))) > 1)
    differing = "; ".join(
        f"rank {rank}: {has[place] if place < len(has) else 'nothing'}" for rank, has in enumerate(every)
    )
    raise ValueError(
        f"Every rank must have the same {what} in one step, but they first differ at number {place}"
        f" ({differing}){remedy}."
    )


def agree_on_parameters(parameters: Sequence[Tensor]) -> None:
    """Raise `ValueError` on every rank unless all have the same parameters in the same order.

    Parameters have no names here: they are told apart by shape and by their first and last number, which
    ranks that train one model have in common but for rounding.
    """
    agree("parameters", [tuple(each.shape) for each in parameters], f"; {_SAME_PARAMETERS}")
    some = [each.detach() for each in parameters if each.numel()]
    if not some:
        return
    ends = torch.stack([each.reshape(-1)[[0, -1]].to(_device()).double() for each in some])
    extremes = torch.stack((ends, -ends))
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    largest, smallest = extremes[0], -extremes[1]
    rounding = 1e-3 * torch.maximum(largest.abs(), smallest.abs()) + 1e-6
    apart = (largest - smallest > rounding).any(dim=1).tolist()
    if any(apart):
        shape = tuple(some[apart.index(True)].shape)
        raise ValueError(
            f"Parameter number {apart.index(True)}, of shape {shape}, is not the same on every rank:"
            f" {_SAME_PARAMETERS}."
        )


def all_of(opinions: Sequence[bool | None]) -> list[bool]:
    """Return for every place whether some rank says yes and none says no; `None` is no opinion."""
    votes = torch.tensor(
        [[opinion is False for opinion in opinions], [opinion is True for opinion in opinions]],
        dtype=torch.int32,
        device=_device(),
    )
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return [bool(yes and not no) for no, yes in votes.T.tolist()]


def union(ids: Tensor) -> Tensor:
    """Return the numbers that any rank has, ascending, each once; alone, the numbers given."""
    if not several():
        return ids
    sizes = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(ids)], device=_device()))
    most = int(max(sizes))
    padded = torch.zeros(most, dtype=torch.int64, device=_device())
    padded[: len(ids)] = ids
    every = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(every, padded)
    kept = [of_rank[: int(size)] for of_rank, size in zip(every, sizes, strict=True)]
    joined: Tensor = torch.unique(torch.cat(kept))
    return joined.to(ids.device)


def average(row: Row, parameters: Sequence[Tensor]) -> Row:
    """Return the mean of every gradient over the ranks; one that is absent everywhere stays absent.

    A gradient that only some ranks have counts as zero on the others. Those of a table's touched rows, the
    same on all ranks, travel as they are; other sparse ones travel dense and come back sparse by rows. All
    travel in buckets, and what is returned are views into these.
    """
    if not parameters:
        return []
    kinds = torch.tensor([_kind(gradient) for gradient in row], device=_device())
    dist.all_reduce(kinds, op=dist.ReduceOp.MAX)
    travelling = {
        position: _tensor(row[position], parameters[position], whole=kind != _TOUCHED)
        for position, kind in enumerate(kinds.tolist())
        if kind != _ABSENT
    }
    averaged: Row = [None] * len(parameters)
    for bucket in _buckets(travelling):
        flat = torch.cat([travelling[position].reshape(-1) for position in bucket])
        flat.div_(dist.get_world_size())  # before the sum, so that half precision does not overflow
        dist.all_reduce(flat)
        parts = torch.split_with_sizes(flat, [travelling[position].numel() for position in bucket])
        for position, part in zip(bucket, parts, strict=True):
            mean, mine = part.view(travelling[position].shape), row[position]
            if kinds[position] == _SPARSE:
                averaged[position] = mean.to_sparse(1)
            elif kinds[position] == _TOUCHED and isinstance(mine, Touched):
                averaged[position] = Touched(mine.ids, mean, mine.sparse)
            else:
                averaged[position] = mean
    return averaged


def average_values(values: Tensor) -> Tensor:
    """Return the mean of a small CPU tensor over the ranks; alone, the tensor."""
    if not several():
        return values
    mean = values.to(_device()) / dist.get_world_size()
    dist.all_reduce(mean)
    return mean.cpu()


def _device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )


def _kind(gradient: Gradient) -> int:
    match gradient:
        case None:
            return _ABSENT
        case Touched():
            return _TOUCHED
    return _SPARSE if gradient.is_sparse else _DENSE


def _tensor(gradient: Gradient, parameter: Tensor, *, whole: bool) -> Tensor:
    match gradient:
        case None:
            return torch.zeros_like(parameter)
        case Touched():
            return gradient.dense(parameter) if whole else gradient.values
    return gradient.to_dense() if gradient.is_sparse else gradient


def _buckets(gradients: dict[int, Tensor]) -> Iterator[list[int]]:
    """Yield runs of positions whose gradients agree in device and type and fit a bucket together."""
    bucket: list[int] = []
    size = 0
    for position, gradient in gradients.items():
        full = size + gradient.nbytes > _BUCKET_BYTES
        if bucket and (full or _place(gradient) != _place(gradients[bucket[-1]])):
            yield bucket
            bucket, size = [], 0
        bucket.append(position)
        size += gradient.nbytes
    if bucket:
        yield bucket


def _place(gradient: Tensor) -> tuple[torch.device, torch.dtype]:
    return gradient.device, gradient.dtype
