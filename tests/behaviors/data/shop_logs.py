"""Little logs of behaviours, and a store's contents by id."""

from collections.abc import Iterable
from pathlib import Path

from counterpoint.behaviors.data.store import Store
from counterpoint.behaviors.recipe import BehaviorsRecipe, Data


def write(file: Path, lines: Iterable[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def write_csv(file: Path, rows: Iterable[tuple], header: str = "user,item,behaviour,time") -> Path:
    return write(file, [header, *(",".join(map(str, row)) for row in rows)])


def shop_recipe(tasks: tuple[str, ...], **data: object) -> BehaviorsRecipe:
    """Return a recipe of these tasks, be they ones that a recipe's own checks would refuse."""
    return BehaviorsRecipe(name="shop").model_copy(update={"tasks": tasks, "data": Data(**data)})


def by_id(store: Store, split: str, behaviour: str) -> list[tuple]:
    """Return the pairs of a split by the ids of the data, ascending."""
    pairs = store.interactions(split, behaviour)
    users, items = store.user_ids.to_list(), store.item_ids.to_list()
    return [(users[user], items[item]) for user, item in zip(pairs.users(), pairs.items, strict=True)]


def contents(store: Store) -> dict[str, list[tuple]]:
    """Return all pairs of a store by split and behaviour."""
    found = {f"train {name}": by_id(store, "train", name) for name in store.behaviours}
    return found | {split: by_id(store, split, store.target) for split in ("validation", "test")}
