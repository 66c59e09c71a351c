import math

import numpy as np
import pytest
import torch
from torch import nn

from counterpoint import balance
from counterpoint.behaviors.batches import PairBatch
from counterpoint.behaviors.model import BehaviorsNetwork
from counterpoint.behaviors.recipe import Network
from counterpoint.behaviors.scoring import NetworkScorer
from counterpoint.training.checkpoint import load_weights, save_weights

TASKS = ("buy", "click", "cart")


@pytest.fixture
def network():
    def make(users=11, items=13, tasks=TASKS, **given):
        torch.manual_seed(3)
        return BehaviorsNetwork(
            users, items, tasks, Network(**{"size": 4, "mlp": (6, 3), "towers": (5,), **given})
        )

    return make


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(5)
    users = torch.randint(11, (20,), generator=generator)
    items = torch.randint(13, (20,), generator=generator)
    return PairBatch(users, items, torch.randint(2, (20, 3), generator=generator).float())


def by_hand(model, user, item, task):
    """The logit of one pair, a layer at a time, by the state's tensors alone."""
    state = model.state_dict()
    hidden = torch.cat((state["mlp_users.weight"][user], state["mlp_items.weight"][item]))
    for place in (0, 3):
        hidden = (state[f"mlp.{place}.weight"] @ hidden + state[f"mlp.{place}.bias"]).clamp(min=0)
    product = state["gmf_users.weight"][user] * state["gmf_items.weight"][item]
    shared = torch.cat((product, hidden))
    tower = f"towers.{TASKS.index(task)}"
    hidden = (state[f"{tower}.0.weight"] @ shared + state[f"{tower}.0.bias"]).clamp(min=0)
    return float(state[f"{tower}.3.weight"][0] @ hidden + state[f"{tower}.3.bias"][0])


def spread(model):
    """Make the weights large, so that no path of the network is lost in the others' rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model.eval()


@pytest.mark.parametrize("tables", ["separate", "common"])
def test_logits_are_those_of_the_figure(network, batch, tables):
    model = spread(network(tables=tables))
    logits = model.logits(batch.users, batch.items)
    assert logits.shape == (20, 3)
    expected = [
        [by_hand(model, user, item, task) for task in TASKS]
        for user, item in zip(batch.users.tolist(), batch.items.tolist(), strict=True)
    ]
    torch.testing.assert_close(logits, torch.tensor(expected))


def test_losses_are_the_mean_cross_entropies_of_each_task(network, batch):
    model = spread(network())
    losses = model.losses(batch)
    assert tuple(losses) == TASKS
    chances = model.logits(batch.users, batch.items).sigmoid()
    for column, task in enumerate(TASKS):
        expected = [
            -math.log(chance if label else 1 - chance)
            for chance, label in zip(
                chances[:, column].tolist(), batch.labels[:, column].tolist(), strict=True
            )
        ]
        assert losses[task].item() == pytest.approx(sum(expected) / 20, rel=1e-5)


def test_the_defaults_are_the_papers_sizes():
    model = BehaviorsNetwork(7, 9, TASKS, Network())
    linear = {
        name: tuple(each.weight.shape) for name, each in model.named_modules() if isinstance(each, nn.Linear)
    }
    assert linear == {
        "mlp.0": (32, 128),
        "mlp.3": (16, 32),
        "mlp.6": (8, 16),
        **{
            f"towers.{number}.{place}": shape
            for number in range(len(TASKS))
            for place, shape in ((0, (64, 72)), (3, (32, 64)), (6, (1, 32)))
        },
    }
    tables = (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items)
    assert [tuple(each.weight.shape) for each in tables] == [(7, 64), (9, 64), (7, 64), (9, 64)]
    dropouts = [each for each in model.modules() if isinstance(each, nn.Dropout)]
    assert [each.p for each in dropouts] == [0.5] * (3 + 2 * 3)


def test_towers_may_be_a_single_layer(network, batch):
    model = network(towers=())
    assert model.tower("buy")[0].weight.shape == (1, 7)
    assert model.logits(batch.users, batch.items).shape == (20, 3)


# What holds modules may itself have such attributes, and a dot cannot stand in a module's name.
@pytest.mark.parametrize(
    "names", [("view.detail", "items", "type"), ("", "0", "training"), ("1", "0", "pop")]
)
def test_a_behaviour_may_have_any_name(network, batch, names, tmp_path):
    plain, named = spread(network()), network(tasks=names).eval()
    save_weights(plain, tmp_path / "model.safetensors")
    load_weights(named, tmp_path / "model.safetensors")
    assert tuple(named.losses(batch)) == names
    for name, task in zip(names, TASKS, strict=True):
        assert torch.equal(named.losses(batch)[name], plain.losses(batch)[task])
        assert named.tower(name)[0].weight.equal(plain.tower(task)[0].weight)
    found = NetworkScorer(named, names[1]).scores(np.arange(4))
    assert torch.equal(found, NetworkScorer(plain, TASKS[1]).scores(np.arange(4)))
    assert not torch.equal(found, NetworkScorer(named, names[2]).scores(np.arange(4)))


@pytest.mark.parametrize(("tables", "count"), [("separate", 4), ("common", 2)])
def test_what_is_shared_is_all_but_the_towers(network, tables, count):
    model = network(tables=tables)
    shared = list(model.shared_parameters())
    own = list(model.towers.parameters())
    assert len(shared) == count + 4
    assert {id(each) for each in (*shared, *own)} == {id(each) for each in model.parameters()}
    assert len({id(each) for each in shared}) == len(shared)
    assert (model.gmf_users is model.mlp_users) == (tables == "common")


@pytest.mark.parametrize(("updates", "sparse"), [("touched", True), ("all", False)])
@pytest.mark.parametrize("tables", ["separate", "common"])
@pytest.mark.parametrize("method", ["equal", "metabalance"])
@pytest.mark.parametrize("rows", [13, 70])  # fewer than look-ups, and more
def test_gradients_of_tables_are_of_the_rows_touched_alone(
    network, batch, updates, sparse, tables, method, rows
):
    model = network(users=rows, items=rows, updates=updates, tables=tables)
    report = balance.make(method).backward(
        model.losses(batch), shared=model.shared_parameters(), target="buy"
    )
    assert report.finite
    for table, ids in ((model.mlp_users, batch.users), (model.mlp_items, batch.items)):
        gradient = table.weight.grad
        assert gradient.is_sparse == sparse
        whole = gradient.to_dense() if sparse else gradient
        assert set(whole.any(dim=1).nonzero()[:, 0].tolist()) <= set(ids.tolist())
        if sparse:
            assert gradient.coalesce().indices()[0].tolist() == sorted(set(ids.tolist()))


def test_vectors_start_small_and_layers_without_biases():
    torch.manual_seed(0)
    model = BehaviorsNetwork(3000, 2000, TASKS, Network())
    for table in (model.mlp_users, model.mlp_items, model.gmf_users, model.gmf_items):
        assert table.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not torch.equal(model.mlp_users.weight, model.gmf_users.weight)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            assert not layer.bias.any(), name
            outputs, inputs = layer.weight.shape
            bound = math.sqrt(3 / inputs if outputs == 1 else 6 / (inputs + outputs))
            assert 0.8 * bound < layer.weight.abs().max().item() <= bound, name


def test_no_logit_is_large_before_training(network, batch):
    logits = network(size=64).eval().logits(batch.users, batch.items)
    assert float(logits.detach().abs().max()) < 0.1


@pytest.mark.parametrize("tables", ["separate", "common"])
def test_a_saved_network_is_the_same_when_loaded(network, batch, tables, tmp_path):
    model = spread(network(tables=tables))
    save_weights(model, tmp_path / "model.safetensors")
    again = network(tables=tables).eval()
    load_weights(again, tmp_path / "model.safetensors")
    assert torch.equal(again.logits(batch.users, batch.items), model.logits(batch.users, batch.items))
    assert (again.gmf_items is again.mlp_items) == (tables == "common")


def test_common_tables_are_saved_once(network, tmp_path):
    sizes = {}
    for tables in ("separate", "common"):
        save_weights(network(users=400, items=500, tables=tables), tmp_path / tables)
        sizes[tables] = (tmp_path / tables).stat().st_size
    assert sizes["separate"] - sizes["common"] > 900 * 4 * 4


def test_the_network_learns_who_buys_what():
    """Users of even rows buy even items, those of odd rows odd ones; half of the pairs are left out."""
    torch.manual_seed(0)
    users, items = (
        part.flatten() for part in torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    )
    alike = (users % 2 == items % 2).float()
    labels = torch.stack((alike, 1 - alike), dim=1)
    seen = torch.rand(1600) < 0.5
    model = BehaviorsNetwork(40, 40, ("buy", "ignore"), Network(dropout=0.1, updates="all"))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.losses(PairBatch(users[seen], items[seen], labels[seen])).values()).backward()
        optimizer.step()
    logits = model.eval().logits(users[~seen], items[~seen]).detach()
    assert float(((logits > 0) == labels[~seen].bool()).float().mean()) > 0.95
