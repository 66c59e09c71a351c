"""Checkpoints: everything that training depends on, in safetensors and JSON, never half written."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from counterpoint.errors import CounterpointError
from counterpoint.files import new_folder, read_json, write_json

_NAME = re.compile(r"step-(\d+)")


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, balancer: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write the checkpoint of ``state["step"]`` into ``folder`` and remove older ones.

    Args:
        folder: where a run's checkpoints stand.
        model: its parameters and buffers.
        optimizer: its moments.
        balancer: the balancer's state.
        state: plain values: the step and whatever else the loop must know.
    """
    target = folder / f"step-{state['step']:08d}"
    with new_folder(target) as place:
        save_weights(model, place / "model.safetensors")
        moments, numbers = _flat(optimizer)
        save_file(moments, place / "optimizer.safetensors")
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            generators |= {f"cuda{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
        tensors = {f"balancer.{name}": value for name, value in balancer.items() if isinstance(value, Tensor)}
        save_file({**generators, **tensors}, place / "random.safetensors")
        plain = {name: value for name, value in balancer.items() if not isinstance(value, Tensor)}
        write_json(place / "state.json", {**state, "optimizer": numbers, "balancer": plain})
    for older in folder.iterdir():
        if _NAME.fullmatch(older.name) and older != target:
            shutil.rmtree(older)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Restore the newest checkpoint, the random generators included.

    Returns:
        The loop's state and the balancer's, or nothing if there is no checkpoint yet.

    Raises:
        CounterpointError: the checkpoint is cut short or belongs to another model.
    """
    steps = sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
    if not steps:
        return None
    place = steps[-1]
    state: dict[str, Any] = read_json(place / "state.json")
    load_weights(model, place / "model.safetensors")
    _restore(optimizer, read_tensors(place / "optimizer.safetensors"), state.pop("optimizer"))
    random = read_tensors(place / "random.safetensors")
    torch.set_rng_state(random.pop("cpu"))
    balancer: dict[str, Any] = state.pop("balancer")
    for name, tensor in random.items():
        if name.startswith("balancer."):
            balancer[name.removeprefix("balancer.")] = tensor
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(tensor, int(name.removeprefix("cuda")))
    return state, balancer


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a model's parameters and buffers; tensors that share their memory are written once each."""
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}, file)


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill a model from a safetensors file.

    Raises:
        CounterpointError: the file is cut short or belongs to another model.
    """
    try:
        model.load_state_dict(read_tensors(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CounterpointError(f"{file}: belongs to another model ({reason}); use the recipe it was made with.") from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; a broken one is one sentence."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CounterpointError(
            f"{file}: missing or cut short ({error}); remove {file.parent} and go on from an older checkpoint, or "
            "train again."
        ) from error


def _flat(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's tensors by parameter and name, and its other values."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value.contiguous()
            else:
                numbers[key] = value
    return tensors, numbers


def _restore(optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Fill an optimizer that was made with the same groups."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, _, name = key.partition(".")
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
