"""Several processes: make sure they do the same step, and average their gradients."""

import zlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

_BUCKET_BYTES = 25 * 2**20
_ABSENT, _DENSE, _SPARSE = 0, 1, 2


def several() -> bool:
    """Return whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def agree(what: str, mine: Sequence[object]) -> None:
    """Raise `ValueError` on every rank when `mine` differs between ranks."""
    digest = zlib.crc32(repr(list(mine)).encode())
    extremes = torch.tensor([digest, -digest], device=_device())
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    if extremes[0] == -extremes[1]:
        return
    every: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(every, list(mine))
    differing = "; ".join(f"rank {rank}: {has}" for rank, has in enumerate(every))
    raise ValueError(f"Every rank must have the same {what} in one step, but they differ ({differing}).")


def average(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the mean of every gradient over the ranks; one that is absent everywhere stays absent.

    A gradient that only some ranks have counts as zero on the others. Sparse ones travel dense and come back
    sparse by rows. Dense ones travel in buckets, and what is returned are views into these.
    """
    if not parameters:
        return []
    kinds = torch.tensor([_kind(gradient) for gradient in gradients], device=_device())
    dist.all_reduce(kinds, op=dist.ReduceOp.MAX)
    held = [position for position, kind in enumerate(kinds.tolist()) if kind != _ABSENT]
    dense = {position: _dense(gradients[position], parameters[position]) for position in held}
    averaged: list[Tensor | None] = [None] * len(parameters)
    for bucket in _buckets(dense):
        flat = torch.cat([dense[position].reshape(-1) for position in bucket])
        flat.div_(dist.get_world_size())  # before the sum, so that half precision does not overflow
        dist.all_reduce(flat)
        parts = torch.split_with_sizes(flat, [dense[position].numel() for position in bucket])
        for position, part in zip(bucket, parts, strict=True):
            mean = part.view(parameters[position].shape)
            averaged[position] = mean.to_sparse(1) if kinds[position] == _SPARSE else mean
    return averaged


def average_values(values: Tensor) -> Tensor:
    """Return the mean of a small CPU tensor over the ranks."""
    mean = values.to(_device()) / dist.get_world_size()
    dist.all_reduce(mean)
    return mean.cpu()


def _device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return _ABSENT
    return _SPARSE if gradient.is_sparse else _DENSE


def _dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(parameter)
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
