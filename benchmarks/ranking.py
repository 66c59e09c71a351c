"""Ranking a whole catalogue for every user, against a loop over users and batches of items."""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import Ratio, interleaved, threads
from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.ranking import Scorer, top_items
from counterpoint.behaviors.recipe import BehaviorsRecipe
from counterpoint.behaviors.scoring import NetworkScorer, scorer_of
from counterpoint.metrics.topk import CUTOFFS, topk_metrics

USERS, ITEMS, BOUGHT, TESTED = 17_435, 35_920, 131_685, 17_435  # IJCAI-15's, with a test pair for each user
SAMPLE, LOOPED = 128, 4  # users ranked by us and by the loop: the work of each is the same for all
BATCH, DEPTH = 256, max(CUTOFFS)


def run() -> list[Ratio]:
    """Return the ratios of CPU time for one user; the synthetic weights are of the trained ones' sizes."""
    recipe = BehaviorsRecipe(name="ranking")
    model = _network(recipe).eval()
    draw = np.random.default_rng(0)
    bought = Interactions.of_pairs(draw.integers(0, USERS, BOUGHT), draw.integers(0, ITEMS, BOUGHT), USERS)
    tested = Interactions.of_pairs(np.arange(TESTED), draw.integers(0, ITEMS, TESTED), USERS)
    target = recipe.target

    def made() -> Scorer:
        return scorer_of(model, target, bought, DEPTH)

    screened, plain = made(), NetworkScorer(model, target)

    def loop(batch: int) -> Callable[[], object]:
        return lambda: _looped(model, recipe.tasks.index(target), bought, tested, batch)

    variants = {
        "made": made,
        "ours": lambda: _ranked(screened, bought, tested),
        "float32": lambda: _ranked(plain, bought, tested),
        "batches": loop(BATCH),
        "whole": loop(ITEMS),
    }
    seconds = interleaved(variants, rounds=3, clock=time.process_time)
    with threads(1):
        alone = interleaved(
            {name: variants[name] for name in ("made", "ours", "batches")}, rounds=3, clock=time.process_time
        )
    # What is computed once serves all users.
    ranked, exact = (seconds["made"] / USERS + seconds[name] / SAMPLE for name in ("ours", "float32"))
    batches, whole = seconds["batches"] / LOOPED, seconds["whole"] / LOOPED
    of_one_thread = (alone["batches"] / LOOPED) / (alone["made"] / USERS + alone["ours"] / SAMPLE)
    what = f"ranking {ITEMS:,} items, a user"
    beside = f"{1e3 * ranked:.1f} ms against {1e3 * batches:.1f} ms"
    return [
        Ratio(what, f"a loop over batches of {BATCH} items", batches / ranked, 30, beside=beside),
        Ratio(f"{what}, on one thread", f"a loop over batches of {BATCH} items", of_one_thread, 30),
        Ratio(what, "a loop, all items in one batch", whole / ranked, 30),
        Ratio(f"{what}, in float32 throughout", f"a loop over batches of {BATCH} items", batches / exact, 30),
    ]


def _network(recipe: BehaviorsRecipe) -> BehaviorsNetwork:
    """Return a network whose scores are spread as those of a trained one, not all alike as at first."""
    torch.manual_seed(0)
    model = BehaviorsNetwork(USERS, ITEMS, recipe.tasks, recipe.network)
    with torch.no_grad():
        for table in (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items):
            table.weight.normal_(std=0.5)
    return model


def _ranked(scorer: Scorer, bought: Interactions, tested: Interactions) -> None:
    users = np.arange(SAMPLE)
    top, _ = top_items(scorer, users, bought, DEPTH)
    relevant = tested.offsets[: SAMPLE + 1]
    topk_metrics(top, relevant, tested.items[: relevant[-1]])


@torch.no_grad()
def _looped(
    model: BehaviorsNetwork, target: int, bought: Interactions, tested: Interactions, batch: int
) -> dict[str, float]:
    """Rank and score as the field's public code does: pair by pair, every tower, user by user."""
    found: dict[str, list[float]] = {}
    for user in range(LOOPED):
        scores = []
        for start in range(0, ITEMS, batch):
            items = torch.arange(start, min(start + batch, ITEMS))
            users = torch.full_like(items, user)
            scores.append(model.logits(users, items)[:, target].cpu())
        ratings = torch.cat(scores)
        for item in bought.of(user):
            ratings[int(item)] = -torch.inf
        top = torch.topk(ratings, DEPTH).indices.tolist()
        relevant = set(tested.of(user).tolist())
        for cutoff in CUTOFFS:
            hits = [place for place, item in enumerate(top[:cutoff]) if item in relevant]
            best = sum(1 / np.log2(place + 2) for place in range(min(cutoff, len(relevant))))
            found.setdefault(f"ndcg@{cutoff}", []).append(
                sum(1 / np.log2(place + 2) for place in hits) / best
            )
            found.setdefault(f"recall@{cutoff}", []).append(len(hits) / len(relevant))
            found.setdefault(f"precision@{cutoff}", []).append(len(hits) / cutoff)
    return {name: float(np.mean(values)) for name, values in found.items()}
