import math
from copy import deepcopy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from counterpoint import balance
from counterpoint.balance.graph import common_leaves
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.models.building import network
from counterpoint.feedback.recipe import Network
from counterpoint.runs import recipe
from counterpoint.training.checkpoint import load_weights, save_weights
from counterpoint.training.optimizers import make_optimizer
from small_feedback import SCHEMA, SMALL, random_batch, small_network

EVERY = {
    "shared-bottom": {"architecture": "shared-bottom"},
    "mmoe": {"architecture": "mmoe"},
    "cgc": {},
    "cgc of mlps": {"expert_kind": "mlp", "own_experts": 2, "shared_experts": 3},
    "cgc as released": {"expert_kind": "shared-fm-scalar"},
    "ple of two levels": {"levels": 2},
    "ple of three levels": {"levels": 3, "shared_experts": 2},
    "mmoe of two levels": {"architecture": "mmoe", "levels": 2},
    "apart": {"shared_experts": 0},
    "esmm": {"chain": "esmm", "order": ("view", "click", "buy"), "shared_experts": 0},
    "aitm": {"chain": "aitm", "order": ("view", "buy")},
    "without towers": {"towers": ()},
}


def looped(model, batch):
    """Probabilities a task at a time: the modules that the other tests hold, put together anew."""
    vectors = model.fields(batch.ids, batch.numbers, batch.lists)
    flat, first_order = vectors[:, :, :4].reshape(len(batch), -1), vectors[:, :, 4:].reshape(len(batch), -1)
    mixtures = model.extraction(torch.cat((flat, first_order), dim=1))
    pairs = [(f, g) for f in range(6) for g in range(f)]
    machine = sum((vectors[:, f, :4] * vectors[:, g, :4]).sum(1) for f, g in pairs)
    found = []
    for tower, mixture in zip(model.towers, mixtures, strict=True):
        states = torch.cat((mixture, machine[:, None]), dim=1) if model.beside else mixture
        for layer in tower:
            if isinstance(layer, torch.nn.Linear):
                states = (states @ layer.weight.T + layer.bias).clamp(min=0)
        found.append(states)
    states = model.chain.states(found)
    ends = [state @ head.weight[0] + head.bias[0] for state, head in zip(states, model.heads, strict=True)]
    return torch.stack([each.sigmoid() for each in model.chain.logits(ends)], dim=1)


@pytest.mark.parametrize("name", EVERY)
def test_losses_are_the_cross_entropies_of_the_probabilities(name):
    model, batch = small_network(**EVERY[name]).eval(), random_batch()
    probabilities = model.probabilities(batch)
    torch.testing.assert_close(probabilities, looped(model, batch))
    torch.testing.assert_close(model.logits(batch).sigmoid(), probabilities)
    losses = model.losses(batch)
    assert tuple(losses) == SCHEMA.labels
    extra = model.chain.penalties(list(model.logits(batch).unbind(1)))
    for task, loss in enumerate(losses.values()):
        expected = binary_cross_entropy(probabilities[:, task], batch.labels[:, task])
        torch.testing.assert_close(loss, expected + extra.get(task, 0.0))
    # Were outputs all the same, much could be wrong unseen.
    assert float(probabilities.detach().std(dim=0).min()) > 0.01


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("updates", ["touched", "all"])
def test_no_parameter_is_without_gradient(name, updates):
    model = small_network(**EVERY[name], updates=updates)
    sum(model.losses(random_batch(rows=64)).values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        # Every expert, and every field that an expert weighs, has its own.
        is_stacked = gradient.ndim == 3 or parameter_name.endswith("_order")
        stacked = gradient if is_stacked else gradient[None]
        assert all(bool(each.any()) for each in stacked), parameter_name


@pytest.mark.parametrize("name", EVERY)
def test_shared_are_the_parameters_that_several_losses_reach(name):
    model = small_network(**EVERY[name])
    expected = set(map(id, common_leaves(model.losses(random_batch()).values())))
    shared = list(model.shared_parameters())
    assert {id(each) for each in shared} == expected
    assert len(shared) == len(expected)


def modules_of(model, parameters):
    """Names of the modules that parameters belong to: as far down as owners of experts, else the first."""
    names = {id(parameter): name.split(".") for name, parameter in model.named_parameters()}
    found = [names[id(each)] for each in parameters]
    return {".".join(name[: 4 if name[0] == "extraction" else 1]) for name in found}


def test_paper_5_shares_tables_and_shared_experts():
    model = small_network()
    shared = list(model.shared_parameters())
    assert modules_of(model, shared) == {"fields", "extraction.levels.0.shared"}
    own = [each for each in model.parameters() if id(each) not in set(map(id, shared))]
    assert modules_of(model, own) == {
        "extraction.levels.0.own",
        "extraction.levels.0.gates",
        "towers",
        "heads",
    }


def test_experts_that_feed_shared_ones_are_shared():
    model = small_network(levels=2)
    assert modules_of(model, model.shared_parameters()) == {
        "fields",
        "extraction.levels.0.shared",
        "extraction.levels.0.own",
        "extraction.levels.0.common_gate",
        "extraction.levels.1.shared",
    }


def test_a_copy_shares_its_own_parameters():
    model = small_network()
    copied = deepcopy(model)
    names = {id(parameter): name for name, parameter in copied.named_parameters()}
    of_model = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(each)] for each in copied.shared_parameters()] == [
        of_model[id(each)] for each in model.shared_parameters()
    ]


def test_all_parameters_count_as_shared_as_released():
    model = small_network(shared="all")
    assert [*map(id, model.shared_parameters())] == [*map(id, model.parameters())]


def test_one_task_alone_shares_all_with_itself():
    schema = Schema(SCHEMA.ids, SCHEMA.numbers, SCHEMA.lists, ("buy",))
    model = small_network(schema)
    assert [*map(id, model.shared_parameters())] == [*map(id, model.parameters())]
    report = balance.make("gradcraft").backward(
        model.losses(random_batch(schema)), shared=model.shared_parameters()
    )
    assert report.finite


def flat(gradients):
    return torch.cat([(each.to_dense() if each.is_sparse else each).flatten() for each in gradients])


@pytest.mark.parametrize("updates", ["touched", "all"])
@pytest.mark.parametrize("method", ["gradcraft", "pcgrad_plus", "equal"])
@pytest.mark.parametrize("name", ["cgc", "ple of two levels", "aitm"])
def test_a_balanced_step_is_the_method_on_whole_gradients_of_the_shared_parameters(method, name, updates):
    """Each task's gradient taken by itself and laid flat, zeros included; the others get plain sums."""
    batch, model = random_batch(), small_network(**EVERY[name], updates=updates).eval()
    shared = list(model.shared_parameters())
    own = [each for each in model.parameters() if id(each) not in set(map(id, shared))]
    rows, plain = [], []
    for loss in model.losses(batch).values():
        model.zero_grad()
        loss.backward(retain_graph=True)
        rows.append(flat([torch.zeros_like(p) if p.grad is None else p.grad for p in shared]))
        plain.append(flat([torch.zeros_like(p) if p.grad is None else p.grad for p in own]))
    model.zero_grad()
    balance.make(method).backward(model.losses(batch), shared=shared)
    expected = balance.make(method).merge(torch.stack(rows))
    torch.testing.assert_close(flat([each.grad for each in shared]), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat([each.grad for each in own]), sum(plain), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [60, 4000])  # fewer than look-ups, and more
def test_a_step_touches_the_rows_of_its_batch_alone(rows):
    schema = Schema((Column("user", rows), Column("video", 90)), (), (Column("tags", 7),), SCHEMA.labels)
    batch, model = random_batch(schema, rows=40), small_network(schema)
    before = model.fields.table.weight.detach().clone()
    optimizer = make_optimizer(model, recipe.Training(learning_rate=0.1))
    for _ in range(2):
        balance.make("gradcraft").backward(
            model.losses(batch), shared=model.shared_parameters(), heads=model.parameters()
        )
        assert model.fields.table.weight.grad.is_sparse
        optimizer.step()
        optimizer.zero_grad()
    moved = (model.fields.table.weight.detach() != before).any(dim=1).nonzero()[:, 0]
    known = [batch.ids[:, 0], rows + batch.ids[:, 1], rows + 90 + batch.lists[0][0]]
    assert moved.tolist() == torch.unique(torch.cat(known)).tolist()


@pytest.mark.parametrize("name", EVERY)
def test_a_saved_network_is_the_same_when_loaded(name, tmp_path):
    model, batch = small_network(**EVERY[name]).eval(), random_batch()
    save_weights(model, tmp_path / "model.safetensors")
    again = network(SCHEMA, Network.model_validate({**SMALL, **EVERY[name]}))
    load_weights(again.eval(), tmp_path / "model.safetensors")
    assert torch.equal(again.probabilities(batch), model.probabilities(batch))


def test_weights_begin_as_paper_5_has_them():
    torch.manual_seed(0)
    model = network(SCHEMA, Network())
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert not parameter.any(), name
        elif name.endswith("_order"):
            assert parameter.eq(1).all(), name
        elif parameter.numel() > 500:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.15), name
            assert abs(parameter.mean().item()) < 0.002, name


def test_xaviers_rule_goes_by_a_single_experts_sizes():
    torch.manual_seed(0)
    model = network(SCHEMA, Network(initial="xavier"))
    weight = model.extraction.levels[0].shared.deep.layers[1].weight
    bound = math.sqrt(6 / (256 + 128))
    assert 0.95 * bound < float(weight.detach().abs().max()) <= bound


@pytest.mark.parametrize(("place", "wrong"), [(0, 50), (1, -1)])
def test_an_id_beyond_its_vocabulary_is_told_instead_of_read_as_another_columns(place, wrong):
    batch = random_batch()
    batch.ids[3, place] = wrong
    with pytest.raises(CounterpointError, match=f"'{SCHEMA.ids[place].name}' has the id {wrong}, which lies"):
        small_network().losses(batch)


def test_so_is_one_in_a_list():
    batch = random_batch()
    batch.lists[1][0][2] = 11
    with pytest.raises(CounterpointError, match="'words' has the id 11, which lies beyond"):
        small_network().probabilities(batch)


def test_an_order_of_unknown_tasks_is_refused():
    with pytest.raises(UsageError, match=r"no task 'bye' \(did you mean 'buy'\?\); the tasks are"):
        small_network(chain="esmm", order=("click", "bye"))


def test_a_network_needs_columns_and_labels():
    for schema in (Schema((), (), (), ("buy",)), Schema((Column("user", 5),), (), (), ())):
        with pytest.raises(UsageError, match="at least one column and one label"):
            network(schema, Network())


def test_labels_may_have_any_names():
    labels = ("a.b", "losses", "")
    odd, plain = (small_network(Schema(SCHEMA.ids, (), (), each)) for each in (labels, SCHEMA.labels))
    batch = random_batch(Schema(SCHEMA.ids, (), (), labels))
    found, expected = odd.eval().losses(batch), plain.eval().losses(batch)
    assert tuple(found) == labels
    assert [each.item() for each in found.values()] == [each.item() for each in expected.values()]


def test_a_chain_keeps_probabilities_in_order():
    model = small_network(**EVERY["esmm"]).eval()
    view, click, buy = model.probabilities(random_batch()).unbind(1)
    assert bool((view > click).all())
    assert bool((click > buy).all())


@pytest.mark.parametrize("kind", ["deepfm", "mlp", "shared-fm-scalar"])
def test_a_network_learns_who_likes_what(kind):
    """Users of even rows like even videos, those of odd rows odd ones; half of the pairs are left out."""
    torch.manual_seed(0)
    rows = torch.arange(40)
    users, videos = (each.flatten() for each in torch.meshgrid(rows, rows, indexing="ij"))
    alike = (users % 2 == videos % 2).float()
    ids, labels = torch.stack((users, videos), dim=1), torch.stack((alike, 1 - alike), dim=1)
    seen = torch.rand(1600) < 0.5

    def of(chosen):
        return FeedbackBatch(ids[chosen], torch.empty(int(chosen.sum()), 0), (), labels[chosen])

    schema = Schema((Column("user", 40), Column("video", 40)), (), (), ("like", "skip"))
    settings = Network(experts=(32, 16), towers=(8,), expert_kind=kind, updates="all", initial="xavier")
    model = network(schema, settings)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.losses(of(seen)).values()).backward()
        optimizer.step()
    right = (model.eval().probabilities(of(~seen)) > 0.5) == labels[~seen].bool()
    assert float(right.float().mean()) > 0.95
