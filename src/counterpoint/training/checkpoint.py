"""Checkpoints: everything that training depends on, in safetensors and JSON, never half written."""

import re
import shutil
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from counterpoint.errors import CounterpointError
from counterpoint.runs.folder import ModelFolder
from counterpoint.storage.files import new_folder, read_json, write_json

FORMAT = 2  # what the loop, optimizers and balancers keep; one more whenever an older one would not fit
_NAME = re.compile(r"step-(\d+)")


@runtime_checkable
class PartlySaved(Protocol):
    """A module, in a model of any depth, some of whose tensors stand elsewhere: a frozen base, say."""

    def unsaved(self) -> AbstractSet[str]:
        """Return the names in its ``state_dict`` that are neither saved nor loaded."""
        ...


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    balancer: Mapping[str, Any],
    state: Mapping[str, Any],
) -> None:
    """Write the checkpoint of ``state["step"]`` into ``folder`` and remove all that is older or unfinished.

    Args:
        folder: where a run's checkpoints stand; nothing else may stand there.
        model: its parameters and buffers, but for what its modules name as `PartlySaved`.
        optimizer: its moments.
        balancer: the balancer's state: tensors and plain values, also in dictionaries and lists.
        state: plain values: the step and whatever else the loop must know.
    """
    target = folder / f"step-{state['step']:08d}"
    tensors: dict[str, Tensor] = {}
    moments = {str(index): entries for index, entries in optimizer.state_dict()["state"].items()}
    plain = {
        "format": FORMAT,
        "loop": dict(state),
        "optimizer": _take_out(moments, "optimizer", tensors),
        "balancer": _take_out(dict(balancer), "balancer", tensors),
    }
    with new_folder(target) as place:
        save_weights(model, ModelFolder(place).weights)
        save_file(tensors, place / "state.safetensors")
        write_json(place / "state.json", plain)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Restore the newest checkpoint.

    Args:
        folder: where a run's checkpoints stand.
        model: is given its weights.
        optimizer: is given its moments; its groups must be those it was saved with.

    Returns:
        The loop's state and the balancer's, or nothing if there is no checkpoint yet.

    Raises:
        CounterpointError: the checkpoint is cut short, of another version or belongs to another model.
    """
    steps = sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
    if not steps:
        return None
    place = steps[-1]
    plain, tensors = read_json(place / "state.json"), read_tensors(place / "state.safetensors")
    if plain.get("format") != FORMAT:
        raise CounterpointError(
            f"{place}: written by another version of Counterpoint; remove {folder.parent} and train again."
        )
    load_weights(model, ModelFolder(place).weights)
    moments = _put_back(plain["optimizer"], tensors)
    optimizer.load_state_dict(
        {
            "state": {int(index): entries for index, entries in moments.items()},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    return plain["loop"], _put_back(plain["balancer"], tensors)


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a model's parameters and buffers, but for what its modules name as `PartlySaved`.

    Tensors that share their memory are written once each.
    """
    unsaved = _unsaved(model)
    save_file(
        {
            name: tensor.detach().clone().contiguous()
            for name, tensor in model.state_dict().items()
            if name not in unsaved
        },
        file,
    )


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill a model from a safetensors file; what is not saved keeps its value.

    Raises:
        CounterpointError: the file is cut short or belongs to another model.
    """
    tensors = read_tensors(file)
    unsaved = _unsaved(model)
    elsewhere = {name: tensor for name, tensor in model.state_dict().items() if name in unsaved}
    try:
        if both := sorted(unsaved.intersection(tensors)):
            raise RuntimeError(f"it holds {both[0]}, which stands elsewhere")
        model.load_state_dict({**elsewhere, **tensors})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise CounterpointError(
            f"{file}: belongs to another model ({reason}); use the recipe it was made with."
        ) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; a broken one is one sentence."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CounterpointError(
            f"{file}: missing or cut short ({error}); remove {file.parent} and train again."
        ) from error


def _unsaved(model: nn.Module) -> set[str]:
    """Return the names in a model's ``state_dict`` that its modules do not want saved."""
    return {
        f"{place}.{name}" if place else name
        for place, module in model.named_modules(remove_duplicate=False)  # a shared one has several names
        if isinstance(module, PartlySaved)
        for name in module.unsaved()
    }


def _take_out(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON can hold it; its tensors go into ``tensors``, by their place."""
    match value:
        case Tensor():
            tensors[name] = value.detach().contiguous()
            return {"tensor": name}
        case dict():
            return {
                "entries": {key: _take_out(each, f"{name}.{key}", tensors) for key, each in value.items()}
            }
        case list() | tuple():
            return [_take_out(each, f"{name}.{place}", tensors) for place, each in enumerate(value)]
        case _:
            return value


def _put_back(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `_take_out` was given."""
    match value:
        case {"tensor": str(name)}:
            return tensors[name]
        case {"entries": dict(entries)}:
            return {key: _put_back(each, tensors) for key, each in entries.items()}
        case list():
            return [_put_back(each, tensors) for each in value]
        case _:
            return value
