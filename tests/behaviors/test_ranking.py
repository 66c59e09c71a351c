import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.behaviors import recipe, scoring
from counterpoint.behaviors.data.store import Interactions
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.ranking import listed, top_items
from counterpoint.behaviors.scoring import NetworkScorer, ScreenedScorer, scorer_of
from counterpoint.errors import CounterpointError

TASKS = ("buy", "click")
NOTHING = Interactions.of_pairs(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32), 1_000)


class Table:
    """A scorer with given scores."""

    def __init__(self, scores):
        self.table = torch.as_tensor(np.asarray(scores, dtype=np.float32))

    def scores(self, users):
        return self.table[torch.from_numpy(users).long()].clone()


def network(users=7, items=50, spread=0.5, **sections):
    """A network with biases, whose logits are spread."""
    torch.manual_seed(3)
    model = BehaviorsNetwork(users, items, TASKS, recipe.Network(**sections))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(std=0.3)
        for table in (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items):
            table.weight.normal_(std=spread)
    return model


def logits(model, users, items, task="buy"):
    """The logits by the network's own forward pass, pair by pair."""
    with torch.no_grad():
        pairs = torch.cartesian_prod(torch.tensor(users), torch.arange(items))
        scores = model.eval().logits(pairs[:, 0], pairs[:, 1])[:, TASKS.index(task)]
    return scores.view(len(users), items)


def pairs(found, users=1_000):
    users_of, items = np.array(sorted(found), dtype=np.int32).reshape(-1, 2).T
    return Interactions.of_pairs(users_of, items, users)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"tables": "common"},
        {"mlp": (5,), "towers": ()},
        {"mlp": (6, 3), "towers": (9,), "size": 5},
        {"updates": "all", "towers": (8, 7, 6)},
    ],
)
def test_scores_are_the_logits_of_the_task(sections, task):
    model = network(**sections)
    expected = logits(model, [4, 0, 6], 50, task)
    model.train()
    found = NetworkScorer(model, task).scores(np.array([4, 0, 6]))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert model.training


def test_scores_do_not_depend_on_how_the_items_are_cut_into_blocks(monkeypatch):
    model = network(items=101)
    expected = logits(model, [1, 2], 101)
    scorer = NetworkScorer(model, "buy")
    for size in (1, 72 * 4 * 10, 72 * 4 * 101):
        monkeypatch.setattr(scoring, "_BLOCK_BYTES", {"cpu": size})
        torch.testing.assert_close(scorer.scores(np.array([1, 2])), expected, atol=1e-5, rtol=1e-5)


def test_pair_scores_and_rough_scores_are_the_same_network(monkeypatch):
    model = network()
    scorer = NetworkScorer(model, "click")
    expected = logits(model, [0, 5], 50, "click")
    users, items = torch.tensor([0, 5, 5]), torch.tensor([49, 0, 7])
    found = scorer.pair_scores(users, items)
    torch.testing.assert_close(found, expected[[0, 1, 1], items], atol=1e-5, rtol=1e-5)
    rough = scorer.rough_scores(np.array([0, 5]))
    error = (rough - expected).abs().max()
    assert 1e-5 < error < 0.05 * expected.std()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_top_items_are_the_unmasked_ones_by_score_and_then_by_a_rank_of_their_own(data):
    users, items = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 9))
    depth = data.draw(st.integers(1, 12))
    draw = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    scores = draw.integers(-2, 3, (users, items)).astype(np.float32) / 3
    mask = draw.random((users, items)) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    masked = pairs(zip(*np.nonzero(mask), strict=True), users)
    asked = draw.permutation(users)
    # A constant scorer tells the items' own order.
    order = top_items(Table(np.zeros((1, items))), np.zeros(1, dtype=int), NOTHING, items)[0][0].tolist()
    found, values = top_items(Table(scores), asked, masked, depth)
    for row, user in enumerate(asked):
        left = [item for item in range(items) if not mask[user, item]]
        best = sorted(left, key=lambda item: (-scores[user, item], order.index(item)))[:depth]
        missing = depth - len(best)
        assert found[row].tolist() == best + [-1] * missing
        np.testing.assert_array_equal(values[row], [*scores[user, best], *[np.nan] * missing])


def test_a_constant_scorer_ranks_by_chance_and_not_by_number():
    constant = Table(np.full((2, 1_000), 0.25))
    first, _ = top_items(constant, np.array([0, 1]), NOTHING, 1_000)
    again, _ = top_items(constant, np.array([0, 1]), NOTHING, 1_000)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], first[1])
    assert sorted(first[0]) == list(range(1_000))
    assert abs(np.corrcoef(first[0], np.arange(1_000))[0, 1]) < 0.1


def test_both_zeros_are_equal():
    order = top_items(Table(np.zeros((1, 6))), np.zeros(1, dtype=int), NOTHING, 6)[0]
    signed = Table([[0.0, -0.0, 0.0, -0.0, 0.0, -0.0]])
    np.testing.assert_array_equal(top_items(signed, np.zeros(1, dtype=int), NOTHING, 6)[0], order)


def test_negative_scores_are_in_order_too():
    table = Table([[-1.5, 3.0, -1e-30, 1e-30, -2.0, 1e30, -1e30]])
    found, _ = top_items(table, np.zeros(1, dtype=int), NOTHING, 7)
    assert found[0].tolist() == [5, 1, 3, 2, 0, 4, 6]


def test_no_users_have_no_lists_and_the_others_are_counted():
    told = []
    table = Table(np.zeros((70, 3)))
    items, values = top_items(table, np.empty(0, dtype=int), NOTHING, 4)
    assert items.shape == values.shape == (0, 4)
    top_items(table, np.arange(70), NOTHING, 2, progress=lambda *call: told.append(call))
    assert told == [("ranking items", 32, 70), ("ranking items", 64, 70), ("ranking items", 70, 70)]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(broken):
    scores = np.zeros((3, 4))
    scores[1, 2] = broken
    with pytest.raises(CounterpointError, match="The scores of user number 1 are not all finite; check that"):
        top_items(Table(scores), np.array([0, 1, 2]), NOTHING, 2)


def test_a_network_that_diverged_is_refused():
    model = network()
    with torch.no_grad():
        model.gmf_items.weight[3, 0] = torch.nan
    with pytest.raises(CounterpointError, match="The network that predicts 'buy' has weights that are infin"):
        NetworkScorer(model, "buy")


def test_items_are_listed_user_after_user():
    bought = pairs([(0, 4), (0, 9), (2, 1), (3, 7)], 4)
    items, place = listed(bought, np.array([2, 1, 0]))
    assert items.tolist() == [1, 4, 9]
    assert place.tolist() == [0, 2, 2]


@pytest.fixture(scope="module")
def large():
    """A network over enough items to be screened, and pairs of 40 users to be masked."""
    draw = np.random.default_rng(1)
    masked = Interactions.of_pairs(draw.integers(0, 40, 4_000), draw.integers(0, 5_000, 4_000), 40)
    return network(users=40, items=5_000), masked


class Watched(NetworkScorer):
    """Counts the users that were scored in float32."""

    exact = 0

    def scores(self, users):
        self.exact += len(users)
        return super().scores(users)


def test_the_first_screened_items_are_those_of_float32(large):
    model, masked = large
    scorer = Watched(model, "buy")
    users = np.arange(40)
    expected, values = top_items(NetworkScorer(model, "buy"), users, masked, 20)
    items, found = top_items(ScreenedScorer(scorer, masked, 20), users, masked, 20)
    np.testing.assert_array_equal(items, expected)
    np.testing.assert_allclose(found, values, atol=1e-5)
    assert scorer.exact == 0  # it was the screening that found them
    rough, _ = top_items(Table(scorer.rough_scores(users)), users, masked, 20)
    assert (rough != expected).any()  # and it was needed
    assert not any(set(row) & set(masked.of(user)) for user, row in enumerate(items.tolist()))


def test_a_user_is_screened_safely_when_only_masked_items_score_high(large):
    model, _ = large
    users = np.arange(3)
    best, _ = top_items(NetworkScorer(model, "buy"), users, NOTHING, 300)
    masked = pairs([(user, item) for user in users for item in best[user]], 40)
    expected, _ = top_items(NetworkScorer(model, "buy"), users, masked, 20)
    found, _ = top_items(ScreenedScorer(NetworkScorer(model, "buy"), masked, 20), users, masked, 20)
    np.testing.assert_array_equal(found, expected)


def test_users_whose_items_are_all_alike_are_scored_in_float32():
    model = network(users=3, items=5_000, spread=1e-4)
    scorer = Watched(model, "buy")
    users = np.arange(3)
    found, _ = top_items(ScreenedScorer(scorer, NOTHING, 20), users, NOTHING, 20)
    assert scorer.exact == 3
    expected, _ = top_items(NetworkScorer(model, "buy"), users, NOTHING, 20)
    np.testing.assert_array_equal(found, expected)


def test_a_user_with_fewer_items_left_than_asked_for_is_scored_in_float32():
    model = network(users=2, items=5_000)
    masked = pairs([(0, item) for item in range(4_990)], 2)
    scorer = Watched(model, "buy")
    found, _ = top_items(ScreenedScorer(scorer, masked, 20), np.arange(2), masked, 20)
    assert scorer.exact == 1
    assert sorted(found[0][:10]) == list(range(4_990, 5_000))
    assert (found[0][10:] == -1).all()


def test_an_error_that_the_probes_did_not_tell_of_is_found_and_mended(large):
    model, masked = large
    users = np.arange(4)
    expected, _ = top_items(NetworkScorer(model, "buy"), users, masked, 20)

    class Off(Watched):
        """Gives one user's best item, which is no probe, a rough score that is far too high."""

        def rough_scores(self, users):
            rough = super().rough_scores(users)
            rough[2, unprobed] += 5
            return rough

    scorer = Off(model, "buy")
    screened = ScreenedScorer(scorer, masked, 20)
    probes = set(screened._probes.tolist())
    unprobed = next(item for item in expected[2] if item not in probes)
    found, _ = top_items(screened, users, masked, 20)
    assert scorer.exact == 1
    np.testing.assert_array_equal(found, expected)


def test_few_items_or_a_slow_bfloat16_are_not_screened(large, monkeypatch):
    model, masked = large
    monkeypatch.setattr(scoring, "bf16_is_fast", lambda device: True)
    assert isinstance(scorer_of(model, "buy", masked, 20), ScreenedScorer)
    assert isinstance(scorer_of(network(), "buy", NOTHING, 20), NetworkScorer)
    monkeypatch.setattr(scoring, "bf16_is_fast", lambda device: False)
    assert isinstance(scorer_of(model, "buy", masked, 20), NetworkScorer)
