import numpy as np
import pytest

from counterpoint.api import read_recipe
from counterpoint.errors import CounterpointError
from counterpoint.feedback.batches import TrainingBatches, gathered
from counterpoint.feedback.data.store import Store
from small_feedback import SETTINGS as SMALL


def recipe_of(*settings):
    return read_recipe("gradcraft", [*SMALL, *settings])


def rows_of(batch):
    """Return what tells a row of a batch from any other, as a list."""
    return [
        tuple(ids) + tuple(numbers)
        for ids, numbers in zip(batch.ids.tolist(), batch.numbers.tolist(), strict=True)
    ]


def test_an_epoch_goes_once_through_all_rows_in_an_order_of_its_own(store):
    batches = TrainingBatches(store, recipe_of())
    rows = store.rows("train")
    every = gathered(rows, np.arange(len(rows)), [0])
    epochs = []
    for epoch in (0, 1):
        seen = [row for number in range(len(batches)) for row in rows_of(batches.batch(epoch, number))]
        assert sorted(seen) == sorted(rows_of(every))
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    assert sum(len(batches.batch(0, number)) for number in range(len(batches))) == batches.examples


def test_a_batch_depends_on_its_place_alone(store):
    first, second = (TrainingBatches(store, recipe_of()) for _ in range(2))
    second.batch(1, 0)
    assert rows_of(first.batch(0, 3)) == rows_of(second.batch(0, 3))
    assert rows_of(first.batch(0, 3)) != rows_of(
        TrainingBatches(store, recipe_of("training.seed=1")).batch(0, 3)
    )


def test_gathering_is_what_row_by_row_reading_gives(store):
    rows = store.rows("train")
    chosen = np.array([5, 2, 2, 40])
    batch = gathered(rows, chosen, [2, 0])
    assert batch.ids.tolist() == [rows.ids[row].tolist() for row in chosen]
    assert batch.labels.tolist() == [
        [float(rows.labels[row, 2]), float(rows.labels[row, 0])] for row in chosen
    ]
    values, offsets = batch.lists[0]
    ends = [*offsets.tolist()[1:], len(values)]
    bags = [values[begin:end].tolist() for begin, end in zip(offsets.tolist(), ends, strict=True)]
    flat, starts = rows.lists[0]
    assert bags == [flat[starts[row] : starts[row + 1]].tolist() for row in chosen]


def test_processes_share_a_batch_evenly(store):
    batches = TrainingBatches(store, recipe_of())
    last = len(batches) - 1
    shares = [batches.batch(0, last, rank=rank, processes=3) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    together = [row for share in shares for row in rows_of(share)]
    assert set(together) == set(rows_of(batches.batch(0, last)))


def test_tasks_choose_labels_in_their_own_order(store):
    batches = TrainingBatches(store, recipe_of("tasks=['like','effective_view']"))
    batch, every = batches.batch(0, 0), TrainingBatches(store, recipe_of()).batch(0, 0)
    assert batch.labels.tolist() == every.labels[:, [2, 0]].tolist()


def test_fewer_rows_than_a_batch_are_refused(store):
    with pytest.raises(CounterpointError, match=r"training rows are fewer than one batch of 99999; lower"):
        TrainingBatches(store, recipe_of("training.batch_size=99999"))


@pytest.mark.parametrize(
    ("split", "positive", "told"),
    [
        ("train", 0, "the label 'like' is 0 in all training rows"),
        ("validation", "all", "the label 'like' is 1 in all validation rows"),
    ],
)
def test_a_label_that_does_not_vary_is_refused(store, split, positive, told):
    changed = Store(store.path)
    count = changed.manifest["splits"][split] if positive == "all" else positive
    changed.manifest["positives"][split]["like"] = count
    with pytest.raises(CounterpointError, match=told):
        TrainingBatches(changed, recipe_of())
    TrainingBatches(changed, recipe_of("tasks=['long_view','follow']"))  # the others do
