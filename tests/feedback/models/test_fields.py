import pytest
import torch

from counterpoint.feedback.models.fields import Fields
from small_feedback import random_batch


@pytest.fixture
def fields():
    torch.manual_seed(0)
    return Fields([50, 90], 2, [7, 11], 3, sparse=False)


def test_every_field_is_its_own_columns_vector(fields):
    """Looked up one value at a time in the tables that the common one is cut into."""
    batch = random_batch()
    vectors = fields(batch.ids, batch.numbers, batch.lists)
    assert vectors.shape == (12, 6, 3)
    users, videos, tags, words = torch.split(fields.table.weight, [50, 90, 7, 11])
    for row in range(12):
        expected = [users[batch.ids[row, 0]], videos[batch.ids[row, 1]]]
        expected += [
            number * vector for number, vector in zip(batch.numbers[row], fields.of_numbers, strict=True)
        ]
        for table, (values, offsets) in zip((tags, words), batch.lists, strict=True):
            end = offsets[row + 1] if row < 11 else len(values)
            mine = values[offsets[row] : end]
            expected.append(table[mine].mean(dim=0) if len(mine) else torch.zeros(3))
        torch.testing.assert_close(vectors[row], torch.stack(expected))


@pytest.mark.parametrize(
    ("ids", "numbers", "lists"), [([5], 0, []), ([], 2, []), ([], 0, [4]), ([5], 0, [4]), ([3], 1, [])]
)
def test_any_columns_may_be_missing(ids, numbers, lists):
    fields = Fields(ids, numbers, lists, 3, sparse=True)
    bags = [(torch.tensor([1, 3]), torch.tensor([0, 1])) for _ in lists]
    vectors = fields(torch.ones(2, len(ids), dtype=torch.int64), torch.ones(2, numbers), bags)
    assert vectors.shape == (2, len(ids) + numbers + len(lists), 3)
    vectors.sum().backward()


def test_ids_may_be_32_bits_wide(fields):
    batch = random_batch()
    narrow = [(values.int(), offsets.int()) for values, offsets in batch.lists]
    assert torch.equal(
        fields(batch.ids.int(), batch.numbers, narrow), fields(batch.ids, batch.numbers, batch.lists)
    )


def test_gradients_of_rows_looked_up_equal_those_of_the_whole_table():
    batch = random_batch()
    found = {}
    for sparse in (True, False):
        torch.manual_seed(0)
        fields = Fields([50, 90], 2, [7, 11], 3, sparse=sparse)
        fields(batch.ids, batch.numbers, batch.lists).square().sum().backward()
        found[sparse] = fields.table.weight.grad
    assert found[True].is_sparse
    touched = found[True].coalesce().indices()[0]
    assert len(touched) < 50
    torch.testing.assert_close(found[True].to_dense(), found[False])
    assert set(found[False].any(dim=1).nonzero()[:, 0].tolist()) <= set(touched.tolist())
