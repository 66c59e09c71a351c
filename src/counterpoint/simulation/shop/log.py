"""A simulated shop's log of clicks, favourites, carts and buys, with the truth behind it.

Real shopping logs may not be passed on, and nobody knows the best ranking they allow, or whether their clicks
should help to predict purchases. Here all of it is known, and the last a matter of choice. How users shop is
told in `behaviors.data.truth`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from counterpoint.behaviors.data.truth import TRUTH, Items, Law, Users
from counterpoint.progress import Progress, silent
from counterpoint.simulation.result import Simulation, at_least, between, must_be_free
from counterpoint.simulation.shop.law import (
    BEHAVIOURS,
    PAGE,
    Log,
    draw_items,
    draw_log,
    draw_users,
    find_law,
    visits_for,
)
from counterpoint.storage.files import new_folder, write_json

START = 1_761_955_200  # the first of November 2025, in seconds of UTC
ROWS_PER_PART = 2**20


@dataclass(frozen=True)
class Parameters:
    """What a simulation depends on, and nothing else."""

    users: int
    items: int
    seed: int
    days: int
    interactions_per_user: float
    click_relevance: float


def simulate(
    out: Path,
    *,
    users: int = 2_000,
    items: int = 1_500,
    seed: int = 0,
    days: int = 14,
    interactions_per_user: float = 120.0,
    click_relevance: float = 0.5,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Simulation:
    """Write a simulated shop's log; the same arguments give the same bytes.

    ``OUT/interactions.parquet`` holds ``user``, ``item``, ``behavior`` (click, favourite, cart or buy) and
    ``time`` (seconds since 1970) by user and time, ``OUT/truth`` the tastes, themes and rates behind it.
    Users are drawn in blocks, so memory depends on the items, not on the users. All else being equal, a log
    of more users begins with that of fewer, and purchases are the same for every ``click_relevance``.

    Args:
        out: the folder to write; it appears only when it is complete.
        users: users; the few who never come are not in the log.
        items: items; those that nobody meets are not in the log.
        seed: of every random choice.
        days: days logged.
        interactions_per_user: mean number of rows.
        click_relevance: how far clicks have the reasons of purchases: at 1 they come from the same taste,
            at 0 all of them but those on the way to a purchase come from an unrelated one.
        overwrite: replace ``out`` if something is there.
        progress: is told how many users are done.

    Raises:
        UsageError: an option is out of range, or ``out`` holds something already.
    """
    at_least("users", users, 1)
    at_least("items", items, 2)
    at_least("seed", seed, 0)
    at_least("days", days, 1)
    between("interactions_per_user", interactions_per_user, 1, 10_000)
    between("click_relevance", click_relevance, 0, 1)
    must_be_free(out, overwrite)

    parameters = Parameters(users, items, seed, days, interactions_per_user, click_relevance)
    with new_folder(out) as folder:
        catalogue = draw_items(np.random.default_rng([seed, 0]), items)
        law = find_law(np.random.default_rng([seed, 1]), catalogue, click_relevance)
        counts = _write_log(folder, catalogue, law, parameters, progress)
        write_json(
            folder / "simulation.json",
            {"simulated": True, "parameters": asdict(parameters), "law": asdict(law), "counts": counts},
        )
        (folder / "README.md").write_text(_readme(parameters), encoding="utf-8")
    return Simulation(out, counts)


def _readme(parameters: Parameters) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in asdict(parameters).items())
    return (
        "# A simulated shop\n\n"
        "Everything in this folder is simulated: no user, item or purchase is real. `interactions.parquet` "
        "is the log, a row for each click, favourite, cart and buy; times are seconds since 1970.\n\n"
        "A user makes visits, each to one item. Seven in ten are strolls, which are clicks and nothing else. "
        "The others are errands, to items that suit the user's taste or are popular: most log a click, and "
        "the better the item suits the taste, the likelier are a favourite, a cart and a buy, which may come "
        "hours later. Strolls go after the same taste where `click_relevance` is 1, after an unrelated one "
        "where it is 0. Several visits to the same item are common.\n\n"
        "`truth` holds what this was drawn from, in single precision: `users.npy` a row for each user "
        "(taste, idle taste, expected visits), `items.npy` a row for each item (themes, idle themes, "
        "logarithms of popularity and of idle popularity), `law.json` the rest; row 12 belongs to the user "
        "or item whose number is 12. The formulas stand in `counterpoint.behaviors.data.truth`.\n\n"
        f"Made by `counterpoint simulate behaviors` with {settings}.\n"
    )


def _write_log(
    folder: Path, catalogue: Items, law: Law, parameters: Parameters, progress: Progress
) -> dict[str, int]:
    truth = _TruthWriter(folder / TRUTH, catalogue, law, parameters.users)
    log = _LogWriter(folder / "interactions.parquet", parameters)
    for first, users, rows in _pages(catalogue, law, parameters):
        truth.append(users)
        log.append(rows)
        progress("simulating users", min(first + PAGE, parameters.users), parameters.users)
    log.finish()
    return log.counts()


def _pages(catalogue: Items, law: Law, parameters: Parameters) -> Iterator[tuple[int, Users, Log]]:
    """Draw the users page by page, each from a seed of its own: the first user's number, tastes and rows."""
    visits = visits_for(parameters.interactions_per_user)
    for first in range(0, parameters.users, PAGE):
        rng = np.random.default_rng([parameters.seed, 2, first])
        users = draw_users(rng, visits)
        rows = draw_log(rng, users, catalogue, law, parameters.days)
        within = rows.user < parameters.users - first
        user, item, behaviour, time = (column[within] for column in rows)
        count = parameters.users - first
        yield first, Users(*(column[:count] for column in users)), Log(user + first, item, behaviour, time)


class _TruthWriter:
    """The truth being written; users are added as they are drawn."""

    def __init__(self, folder: Path, items: Items, law: Law, users: int) -> None:
        folder.mkdir()
        self._file, self._shape = folder / "users.npy", (users,)
        np.save(folder / "items.npy", items.array())
        write_json(folder / "law.json", asdict(law))

    def append(self, users: Users) -> None:
        """Add users at the end."""
        array = users.array()
        with self._file.open("ab") as file:
            if not file.tell():
                header = {"descr": "<f4", "fortran_order": False, "shape": self._shape + array.shape[1:]}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(array.astype("<f4").tobytes())


class _LogWriter:
    """The log being written: parts of about the same size, joined at the end, and counts."""

    def __init__(self, target: Path, parameters: Parameters) -> None:
        self._target = target
        self._parts: list[Path] = []
        self._waiting: list[Log] = []
        self._users, self._items = parameters.users, parameters.items
        self._item_names = _names("i", np.arange(self._items), self._items)
        self._met = np.zeros(self._items, bool)
        self._present = self._pairs = self._clicked_pairs = 0
        self._rows = np.zeros(len(BEHAVIOURS), np.int64)

    def append(self, rows: Log) -> None:
        """Add the rows of a page of users."""
        self._count(rows)
        self._waiting.append(rows)
        if sum(len(each.user) for each in self._waiting) >= ROWS_PER_PART:
            self._write_part()

    def finish(self) -> None:
        """Join the parts."""
        if self._waiting:
            self._write_part()
        pl.scan_parquet(self._parts, glob=False).sink_parquet(self._target, row_group_size=2**18)
        for part in self._parts:
            part.unlink()

    def counts(self) -> dict[str, int]:
        """How many of everything the log holds."""
        return {
            "users": self._present,
            "items": int(self._met.sum()),
            "interactions": int(self._rows.sum()),
            **dict(zip(BEHAVIOURS, self._rows.tolist(), strict=True)),
            "pairs bought": self._pairs,
            "pairs bought and clicked": self._clicked_pairs,
        }

    def _count(self, rows: Log) -> None:
        self._rows += np.bincount(rows.behaviour, minlength=len(BEHAVIOURS))
        self._present += len(np.unique(rows.user))
        self._met[rows.item] = True
        pair = rows.user * self._items + rows.item
        bought = np.unique(pair[rows.behaviour == BEHAVIOURS.index("buy")])
        clicked = pair[rows.behaviour == BEHAVIOURS.index("click")]
        self._pairs += len(bought)
        self._clicked_pairs += int(np.isin(bought, clicked).sum())

    def _write_part(self) -> None:
        user, item, behaviour, time = (
            np.concatenate(columns) for columns in zip(*self._waiting, strict=True)
        )
        self._waiting.clear()
        present, row = np.unique(user, return_inverse=True)
        part = self._target.with_suffix(f".{len(self._parts):06d}")
        pl.DataFrame(
            {
                "user": _names("u", present, self._users).gather(row),
                "item": self._item_names.gather(item),
                "behavior": pl.Series(BEHAVIOURS).gather(behaviour),
                "time": START + time,
            }
        ).write_parquet(part)
        self._parts.append(part)


def _names(letter: str, numbers: Int[np.ndarray, " ids"], count: int) -> pl.Series:
    """Ids that sort as their numbers do: u00012."""
    digits = max(5, len(str(count - 1)))
    names: pl.Series = pl.Series(numbers).cast(pl.String).str.zfill(digits)
    return letter + names
