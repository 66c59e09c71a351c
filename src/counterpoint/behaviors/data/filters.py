"""Which users and items are frequent enough to stay."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from counterpoint.behaviors.recipe import Data
from counterpoint.errors import CounterpointError


def frequent(
    users: Int[np.ndarray, " pairs"], items: Int[np.ndarray, " pairs"], settings: Data, log: Path
) -> tuple[Bool[np.ndarray, " users"], Bool[np.ndarray, " items"]]:
    """Return which users and which items stay.

    First users with ``least_bought`` items or more, then, among their pairs, items with ``least_buyers``
    users or more: once (paper 4, appendix A.2, which leaves some users with fewer items), or in turns until
    nobody goes any more.

    Args:
        users: of the target's pairs, numbered from 0 without gaps.
        items: of the same pairs, each pair once.
        settings: of the recipe.
        log: the file, for messages.

    Raises:
        CounterpointError: nothing stays.
    """
    how_many_users, how_many_items = int(users.max()) + 1, int(items.max()) + 1
    stays = np.ones(len(users), dtype=bool)
    first_turn: tuple[int, int, int] | None = None
    while True:
        bought = np.bincount(users[stays], minlength=how_many_users)
        users_stay = bought >= settings.least_bought
        stays &= users_stay[users]
        before = int(stays.sum())
        buyers = np.bincount(items[stays], minlength=how_many_items)
        items_stay = buyers >= settings.least_buyers
        stays &= items_stay[items]
        if first_turn is None:
            first_turn = int(users_stay.sum()), int(bought.max()), int(buyers.max())
        if not stays.any():
            raise CounterpointError(f"{log}: {_nothing_stays(settings, *first_turn)}.")
        if settings.filter == "once" or int(stays.sum()) == before:
            return users_stay, items_stay


def _nothing_stays(settings: Data, users: int, most_bought: int, most_buyers: int) -> str:
    """Return the clause that says which threshold was too high, from what the first turn found."""
    if not users:
        return (
            f"no user has {settings.least_bought} items or more (the most is {most_bought}); lower "
            "data.least_bought"
        )
    left = f"data.least_bought = {settings.least_bought} leaves {users} user{'s' * (users != 1)}, and"
    if most_buyers < settings.least_buyers:
        return (
            f"{left} no item has {settings.least_buyers} of them (the most is {most_buyers}); lower "
            "data.least_buyers or data.least_bought"
        )
    return (
        f"{left} with data.least_buyers = {settings.least_buyers} nobody stays when users and items go in "
        'turns; lower one of the two, or set data.filter = "once"'
    )
