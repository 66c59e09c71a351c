"""Which rows a step takes: every order of tasks, shares of processes, the same at any point of an epoch."""

from collections import Counter

import numpy as np
import pytest
import torch

from counterpoint.sentences.batches import TrainingBatches, task_batch
from counterpoint.sentences.model import fresh
from counterpoint.training.interfaces import TaskByTask

SIZES = {"sentiment": 43, "paraphrase": 86, "similarity": 22}
PASSES = {"sentiment": 11, "paraphrase": 22, "similarity": 6}


@pytest.fixture
def batches(store, recipe):
    def make(*settings, name="minbert-final"):
        return TrainingBatches(store, recipe(*settings, name=name))

    return make


def rows_of(batch, store):
    """The sentences and label of each row, as text."""
    tokens = np.split(batch.texts.tokens.numpy(), np.cumsum(batch.texts.lengths)[:-1])
    sides = [[tuple(tokens[place]) for place in side.tolist()] for side in batch.sides]
    return list(zip(*sides, batch.labels.tolist(), strict=True))


def epoch_of(batches, store, epoch=0):
    seen = {}
    for number in range(len(batches)):
        for part in batches.batch(epoch, number).parts():
            seen.setdefault(part.task, []).append(rows_of(part, store))
    return seen


def test_unbalanced_tasks_end_when_their_rows_do(batches, store):
    made = batches("sampling.order=unbalanced")
    assert len(made) == 22
    assert [[part.task for part in made.batch(0, number).parts()] for number in (5, 6, 10, 11, 21)] == [
        ["sentiment", "paraphrase", "similarity"],
        ["sentiment", "paraphrase"],
        ["sentiment", "paraphrase"],
        ["paraphrase"],
        ["paraphrase"],
    ]
    seen = epoch_of(made, store)
    assert {task: len(parts) for task, parts in seen.items()} == PASSES
    assert {task: sum(map(len, parts)) for task, parts in seen.items()} == SIZES
    assert made.examples == sum(SIZES.values())


def test_balanced_tasks_begin_again_shuffled_anew(batches, store):
    made = batches()
    assert len(made) == 22
    seen = epoch_of(made, store)
    assert {task: len(parts) for task, parts in seen.items()} == dict.fromkeys(SIZES, 22)
    first, second, third = (seen["similarity"][start : start + 6] for start in (0, 6, 12))
    flat = [Counter(row for part in passed for row in part) for passed in (first, second, third)]
    assert flat[0] == flat[1] == flat[2]
    assert first != second != third
    assert made.examples == sum(len(part) for parts in seen.values() for part in parts)


def test_another_epoch_or_seed_is_another_order(batches, store):
    made = batches("training.epochs=2")
    ours = epoch_of(made, store)
    assert epoch_of(batches("training.epochs=2"), store) == ours
    assert epoch_of(made, store, epoch=1) != ours
    assert epoch_of(batches("training.seed=1"), store) != ours


def test_the_target_does_not_change_what_a_step_has(batches, store):
    for order in ("balanced", "unbalanced", "annealed"):
        sampling = (f"sampling.order={order}", "training.epochs=2")
        first = batches(*sampling)
        other = batches(*sampling, 'tasks=["similarity", "sentiment", "paraphrase"]')
        for epoch, number in ((0, 0), (0, 5), (1, 7)):
            one, same = (
                [(part.task, rows_of(part, store)) for part in made.batch(epoch, number).parts()]
                for made in (first, other)
            )
            assert one == same


def test_the_order_of_rows_is_the_seeds_alone(batches):
    """Values written down once: who trains again with an old seed trains on the same batches."""
    made = batches()
    assert [part.task for part in made.batch(0, 0).parts()] == ["sentiment", "paraphrase", "similarity"]
    drawn = {
        task: [made._shuffle(place, epoch, begun)[:6].tolist() for epoch, begun in ((0, 0), (0, 1), (1, 0))]
        for place, task in enumerate(SIZES)
    }
    assert drawn == {
        "sentiment": [[23, 34, 29, 41, 42, 36], [28, 5, 7, 11, 31, 23], [3, 11, 39, 0, 20, 10]],
        "paraphrase": [[8, 53, 65, 45, 81, 78], [5, 16, 15, 79, 85, 62], [26, 77, 20, 19, 46, 51]],
        "similarity": [[19, 17, 10, 16, 8, 15], [11, 3, 9, 19, 10, 18], [3, 10, 14, 1, 6, 17]],
    }
    annealed = batches("sampling.order=annealed", "training.epochs=3")
    assert annealed._draw(1)[:12].tolist() == [2, 1, 0, 2, 0, 2, 0, 1, 0, 0, 2, 1]


def test_any_batch_can_be_asked_for_first(batches, store):
    for order in ("balanced", "proportional"):
        forwards = batches(f"sampling.order={order}", "training.epochs=2")
        everything = [forwards.batch(epoch, number) for epoch in (0, 1) for number in range(len(forwards))]
        again = batches(f"sampling.order={order}", "training.epochs=2")
        place = len(forwards) + 3
        one, other = (
            [rows_of(part, store) for part in batch.parts()]
            for batch in (everything[place], again.batch(1, 3))
        )
        assert one == other


def test_proportional_draws_follow_the_tasks_sizes(batches, store):
    made = batches("sampling.order=proportional", "training.epochs=12", "training.batch_size=2")
    assert len(made) == -(-(22 + 43 + 11) // 3)
    drawn = Counter(
        part.task
        for epoch in range(12)
        for number in range(len(made))
        for part in made.batch(epoch, number).parts()
    )
    total = drawn.total()
    assert total == 12 * 3 * len(made)
    for task, size in SIZES.items():
        share = size / sum(SIZES.values())
        assert drawn[task] / total == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / total))


def test_a_task_that_is_drawn_again_goes_on_in_its_rows(batches, store):
    whole = epoch_of(batches("sampling.order=unbalanced"), store)
    for task, parts in epoch_of(batches("sampling.order=proportional"), store).items():
        every = Counter(row for part in whole[task] for row in part)
        one_pass = Counter(row for part in parts[: PASSES[task]] for row in part)
        assert one_pass <= every
        assert one_pass == every or len(parts) < PASSES[task]


def test_annealed_draws_become_more_even(batches):
    """From the sizes' own proportions in the first epoch to a fifth of the exponent in the very last one."""
    sizes = np.array(list(SIZES.values()), dtype=float)
    for epochs, epoch, exponent in ((5, 0, 1.0), (2, 1, 0.2), (3, 1, 0.6), (5, 4, 0.2)):
        settings = ("sampling.order=annealed", f"training.epochs={epochs}", "training.batch_size=1")
        draws = np.concatenate(
            [batches(*settings, f"training.seed={seed}")._draw(epoch) for seed in range(40)]
        )
        shares = sizes**exponent / (sizes**exponent).sum()
        drawn = np.bincount(draws, minlength=3) / len(draws)
        assert (np.abs(drawn - shares) < 3 * np.sqrt(shares * (1 - shares) / len(draws))).all()


def test_a_batch_is_a_batch_task_by_task(batches):
    batch = batches().batch(0, 0)
    assert isinstance(batch, TaskByTask)
    assert len(batch) == sum(len(part) for part in batch.parts()) == 12


def test_only_the_tasks_that_are_trained_come(batches):
    made = batches(name="minbert-baseline")
    assert len(made) == 11
    assert {part.task for number in range(11) for part in made.batch(0, number).parts()} == {"sentiment"}


def test_shares_of_a_batch_cover_it_once_and_weigh_by_their_size(batches, store):
    made = batches()
    whole = made.batch(0, 10).parts()[0]  # the last of the pass has three rows
    assert (len(whole), whole.weight) == (3, 1.0)
    rows = rows_of(whole, store)

    def shares(processes):
        parts = [
            made.batch(0, 10, rank=rank, processes=processes).parts()[0].to(torch.device("cpu"))
            for rank in range(processes)
        ]
        return [rows_of(part, store) for part in parts], [part.weight for part in parts]

    assert shares(2) == ([[rows[0], rows[2]], [rows[1]]], pytest.approx([4 / 3, 2 / 3]))
    assert shares(3) == ([[row] for row in rows], [1.0, 1.0, 1.0])
    # Every share has the task; the fourth row that is not there counts nothing.
    assert shares(4) == ([*([row] for row in rows), [rows[0]]], pytest.approx([4 / 3, 4 / 3, 4 / 3, 0]))
    full = made.batch(0, 0, rank=1, processes=2)
    assert [(len(part), part.weight) for part in full.parts()] == [(2, 1.0)] * 3


def test_the_gradient_of_a_smaller_batch_is_the_same_in_shares(batches, recipe):
    torch.manual_seed(0)
    made, model = batches(), fresh(recipe("heads.dropout=0")).eval()

    def gradients(processes):
        model.zero_grad()
        for rank in range(processes):
            part = made.batch(0, 10, rank=rank, processes=processes).parts()[0]
            (loss,) = model.losses(part).values()
            (loss / processes).backward()
        return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])

    whole = gradients(1)
    assert whole.norm() > 0.1
    for processes in (2, 4):
        torch.testing.assert_close(gradients(processes), whole, rtol=1e-4, atol=1e-6)


def test_a_share_of_the_rows_is_the_same_for_every_seed(batches, store):
    def rows(*settings):
        seen = epoch_of(batches("sampling.share=0.5", "sampling.order=unbalanced", *settings), store)
        return {task: Counter(row for part in parts for row in part) for task, parts in seen.items()}

    half = rows()
    assert {task: found.total() for task, found in half.items()} == {
        "sentiment": 22, "paraphrase": 43, "similarity": 11,
    }  # fmt: skip
    assert rows("training.seed=3") == half


def test_a_batch_holds_each_sentence_once_and_shortest_first(store, recipe):
    rows = store.rows("paraphrase", "train").of(np.array([0, 1, 0]))
    batch = task_batch(store, recipe(), "paraphrase", rows)
    assert len(batch.texts) == len(np.unique(rows.sentences))
    assert list(batch.texts.lengths) == sorted(batch.texts.lengths)
    assert batch.sides[:, 0].tolist() == batch.sides[:, 2].tolist()
    tokens = np.split(batch.texts.tokens.numpy(), np.cumsum(batch.texts.lengths)[:-1])
    for side, sentences in zip(batch.sides, rows.sentences, strict=True):
        for place, pieces in zip(side.tolist(), store.pieces(sentences), strict=True):
            assert tokens[place].tolist() == [101, *pieces.tolist(), 102]


def test_pairs_encoded_jointly_have_two_segments(store, recipe):
    rows = store.rows("similarity", "train").of(np.arange(3))
    batch = task_batch(store, recipe(name="sentences-cross"), "similarity", rows)
    assert batch.sides.shape == (1, 3)
    tokens, segments = (
        np.split(values.numpy(), np.cumsum(batch.texts.lengths)[:-1])
        for values in (batch.texts.tokens, batch.texts.segments)
    )
    for row, place in enumerate(batch.sides[0].tolist()):
        first, second = (store.pieces(side[row : row + 1])[0].tolist() for side in rows.sentences)
        assert tokens[place].tolist() == [101, *first, 102, *second, 102]
        assert segments[place].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
