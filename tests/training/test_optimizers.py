import json
import math
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Adagrad, Adam, AdamW, RMSprop, SparseAdam

from counterpoint import balance
from counterpoint.runs.recipe import Recipe, override, to_toml, validate
from counterpoint.training.loop import fit
from counterpoint.training.optimizers import clip_gradients, make_optimizer, move_touched_rows
from counterpoint.training.schedule import DECAYS, linear_decay, no_decay

KINDS = {"adam": Adam, "adamw": AdamW, "adagrad": Adagrad, "rmsprop": RMSprop}
ROWS, WIDTH = 9, 5


@pytest.fixture(autouse=True)
def same_draws():
    torch.manual_seed(0)


@dataclass
class Batch:
    rows: torch.Tensor
    targets: torch.Tensor

    def to(self, device):
        return self

    def __len__(self):
        return len(self.rows)


class Batches:
    """Look-ups of some rows each, in a table of which the batches leave a row untouched."""

    def __init__(self, number=6, looked_up=4):
        self.number, self.looked_up = number, looked_up

    def __len__(self):
        return self.number

    def batch(self, epoch, number, *, rank=0, processes=1):
        generator = torch.Generator().manual_seed(100 * epoch + number)
        rows = torch.randint(ROWS - 1, (self.looked_up,), generator=generator)
        return Batch(rows, torch.randn(self.looked_up, 2, generator=generator))


class Small(nn.Module):
    """A table, a shared layer and two heads."""

    def __init__(self, sparse=True):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(ROWS, WIDTH, sparse=sparse)
        self.layer = nn.Linear(WIDTH, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in "ab"})

    def losses(self, batch):
        states = self.layer(self.table(batch.rows)).tanh()
        return {
            task: (head(states)[:, 0] - batch.targets[:, place]).square().mean()
            for place, (task, head) in enumerate(self.heads.items())
        }

    def shared_parameters(self):
        yield self.table.weight
        yield from self.layer.parameters()


def dense(model, settings):
    """Torch's own optimizer with the groups of the recipe's."""
    shared = list(model.shared_parameters())
    own = [each for each in model.parameters() if not any(each is other for other in shared)]
    groups = [
        {"params": [each], "weight_decay": settings.weight_decay if each.ndim > 1 else 0.0}
        for each in (*shared, *own)
    ]
    return KINDS[settings.optimizer](groups, lr=settings.learning_rate)


def take_steps(model, optimizer, lookups, method="equal"):
    """Train on look-ups; return what the table was before each step, and at the end."""
    balancer, tables = balance.make(method), [model.table.weight.detach().clone()]
    for step, rows in enumerate(lookups):
        targets = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(step))
        balancer.backward(model.losses(Batch(rows, targets)), shared=model.shared_parameters(), target="a")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tables.append(model.table.weight.detach().clone())
    return tables


def moments(optimizer, parameter):
    return {name: each.clone() for name, each in optimizer.state[parameter].items() if each.ndim}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", KINDS)
def test_where_every_row_is_touched_the_steps_are_torchs_dense_ones(name, weight_decay, settings):
    given = settings(optimizer=name, weight_decay=weight_decay, learning_rate=0.05)
    touched, whole = Small(), Small(sparse=False)
    mine, torchs = make_optimizer(touched, given), dense(whole, given)
    orders = [torch.randperm(ROWS) for _ in range(5)]
    take_steps(touched, mine, orders)
    take_steps(whole, torchs, orders)
    for (key, value), expected in zip(touched.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, msg=key)
    expected = moments(torchs, whole.table.weight)
    actual = moments(mine, touched.table.weight)
    assert set(actual) == set(expected)
    for key, value in actual.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-9)
    assert float(mine.state[touched.table.weight]["step"]) == 5


@pytest.mark.parametrize("name", KINDS)
def test_untouched_rows_keep_their_values_and_moments_to_the_bit(name, settings):
    model = Small()
    optimizer = make_optimizer(model, settings(optimizer=name, weight_decay=0.1, learning_rate=0.1))
    lookups = [torch.tensor([0, 3, 3, 5]), torch.tensor([5, 1]), torch.tensor([0, 1, 0])]
    before = take_steps(model, optimizer, lookups[:1])
    for rows in lookups[1:]:
        held = moments(optimizer, model.table.weight)
        before = take_steps(model, optimizer, [rows])
        untouched = [row for row in range(ROWS) if row not in rows]
        assert torch.equal(before[0][untouched], before[1][untouched])
        assert not (before[0] == before[1])[rows].any()
        for key, value in moments(optimizer, model.table.weight).items():
            assert torch.equal(value[untouched], held[key][untouched]), key
            assert not torch.equal(value[rows], held[key][rows]), key
    # Rows never touched have no moments.
    for key, value in moments(optimizer, model.table.weight).items():
        assert not value[[2, 4, 6, 7, 8]].any(), key
    assert torch.equal(model.table.weight[8], Small().table.weight[8])


def test_adam_of_touched_rows_is_torchs_sparse_adam():
    lookups = [torch.randint(ROWS, (4,)) for _ in range(8)]
    mine, theirs = Small(), Small()
    optimizer = Adam([mine.table.weight], 0.1, eps=1e-15)  # it stands in another place in the two
    move_touched_rows(optimizer)
    expected = take_steps(theirs, SparseAdam([theirs.table.weight], 0.1, eps=1e-15), lookups)
    actual = take_steps(mine, optimizer, lookups)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_dense_adam_moves_a_row_on_that_lazy_adam_leaves(settings):
    """What the documentation says of the difference."""
    given = settings(optimizer="adam", learning_rate=0.1)
    lookups = [torch.tensor([0, 1]), torch.tensor([1, 2])]
    lazy, whole = Small(), Small(sparse=False)
    kept = take_steps(lazy, make_optimizer(lazy, given), lookups)
    moved = take_steps(whole, make_optimizer(whole, given), lookups)
    torch.testing.assert_close(kept[1], moved[1])
    assert torch.equal(kept[1][0], kept[2][0])
    first, second = moved[1][0] - moved[0][0], moved[2][0] - moved[1][0]
    assert (second.sign() == first.sign()).all()
    # A row touched for the first time takes the same step both ways: the bias is the whole table's.
    torch.testing.assert_close(kept[2][2], moved[2][2])


def test_adagrad_without_decay_is_the_dense_one_on_any_rows(settings):
    given = settings(optimizer="adagrad", learning_rate=0.1)
    lookups = [torch.randint(ROWS, (3,)) for _ in range(6)]
    touched, whole = Small(), Small(sparse=False)
    actual = take_steps(touched, make_optimizer(touched, given), lookups)
    torch.testing.assert_close(actual, take_steps(whole, dense(whole, given), lookups), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_gradient_of_no_rows_moves_nothing(name, settings):
    model = Small()
    optimizer = make_optimizer(model, settings(optimizer=name, weight_decay=0.1))
    table = model.table.weight
    for _ in range(2):
        table.grad = torch.sparse_coo_tensor(
            torch.empty(1, 0, dtype=torch.int64), torch.empty(0, WIDTH), table.shape, check_invariants=True
        )
        assert clip_gradients(model.parameters(), 1.0) == 0
        optimizer.step()
    assert torch.equal(table, Small().table.weight)
    assert not any(each.any() for each in moments(optimizer, table).values())
    take_steps(model, optimizer, [torch.arange(ROWS)])
    assert not (table == Small().table.weight).any()


def test_rows_looked_up_twice_count_once_with_the_sum_of_their_gradients():
    model = Small()
    optimizer = Adam([model.table.weight], 0.1)
    move_touched_rows(optimizer)
    model.table(torch.tensor([2, 4, 2])).sum().backward()
    assert not model.table.weight.grad.is_coalesced()
    optimizer.step()
    moved = Small().table.weight.detach() - model.table.weight.detach()
    torch.testing.assert_close(moved[[2, 4]], torch.full((2, WIDTH), 0.1), rtol=1e-4, atol=0)
    assert torch.equal(optimizer.state[model.table.weight]["exp_avg"][2], torch.full((WIDTH,), 0.2))


def test_after_a_step_the_optimizer_holds_the_tables_again(settings):
    model = Small()
    optimizer = make_optimizer(model, settings())
    take_steps(model, optimizer, [torch.tensor([1, 2])])
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}
    assert {id(each) for each in optimizer.state} == held
    for parameter in model.parameters():
        assert all(each.shape == parameter.shape for each in moments(optimizer, parameter).values())


@pytest.mark.parametrize(
    ("name", "kind", "implementation"),
    [
        ("adam", Adam, "fused"),
        ("adamw", AdamW, "fused"),
        ("adagrad", Adagrad, "foreach"),
        ("rmsprop", RMSprop, "foreach"),
    ],
)
def test_dense_parameters_take_torchs_own_steps(name, kind, implementation, settings):
    given = settings(optimizer=name, weight_decay=0.1, head_learning_rate=0.3)
    mine, plain = Small(sparse=False), Small(sparse=False)
    optimizer = make_optimizer(mine, given)
    assert type(optimizer) is kind
    assert all(group[implementation] for group in optimizer.param_groups)
    counterparts = dict(zip(mine.parameters(), plain.parameters(), strict=True))
    groups = [
        {
            "params": [counterparts[each] for each in group["params"]],
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
        }
        for group in optimizer.param_groups
    ]
    lookups = [torch.randint(ROWS, (4,)) for _ in range(4)]
    take_steps(mine, optimizer, lookups)
    take_steps(plain, kind(groups, **{implementation: True}), lookups)
    for each, expected in counterparts.items():
        assert torch.equal(each, expected)


@pytest.mark.parametrize("largest", [0.01, 1.0, 1e6, math.inf])
def test_clipping_counts_sparse_gradients_by_their_rows(largest):
    touched, whole = Small(), Small(sparse=False)
    batch = Batches().batch(0, 0)
    for model in (touched, whole):
        sum(model.losses(batch).values()).backward()
    norm = clip_gradients(touched.parameters(), largest)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(whole.parameters(), largest))
    assert touched.table.weight.grad.is_sparse
    for mine, expected in zip(touched.parameters(), whole.parameters(), strict=True):
        gradient = mine.grad.to_dense() if mine.grad.is_sparse else mine.grad
        torch.testing.assert_close(gradient, expected.grad)


def test_clipping_tells_a_sparse_gradient_that_is_not_finite():
    model = Small()
    sum(model.losses(Batches().batch(0, 0)).values()).backward()
    model.table.weight.grad = model.table.weight.grad.coalesce()
    model.table.weight.grad.values()[1, 2] = math.nan
    assert clip_gradients(model.parameters(), math.inf).isnan()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("looked_up", [4, 30])  # fewer look-ups than the table has rows, and more
@pytest.mark.parametrize("name", KINDS)
def test_an_interrupted_training_of_touched_rows_ends_with_the_same_bits(name, looked_up, settings, new_run):
    given = settings(optimizer=name, weight_decay=0.01, checkpoint_every=4, decay="none", clip_norm=math.inf)

    def train(run, stop=None):
        model = Small()

        def progress(label, done, total):
            if done == stop:
                raise StoppedError

        fit(
            model,
            Batches(looked_up=looked_up),
            given,
            balance.make("metabalance"),
            run,
            target="a",
            save=lambda folder: save_file(model.state_dict(), folder / "model.safetensors"),
            progress=progress,
        )
        return model

    expected, broken = train(new_run("whole")), new_run("broken")
    with pytest.raises(StoppedError):
        train(broken, stop=10)
    model = train(broken)
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert torch.equal(expected.table.weight[ROWS - 1], Small().table.weight[ROWS - 1])
    assert not torch.equal(expected.table.weight, Small().table.weight)


def test_without_decay_the_rate_stays_after_the_warm_up():
    assert [no_decay(step, 20, 0.2) for step in (0, 1, 2, 3, 4, 19)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [no_decay(step, 3, 0.0) for step in range(3)] == [1.0, 1.0, 1.0]
    assert DECAYS["none"] is no_decay
    assert DECAYS["linear"] is linear_decay


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.37, 0.9])
def test_both_decays_warm_up_alike(warmup):
    rising = round(50 * warmup)
    for step in range(rising):
        assert no_decay(step, 50, warmup) == linear_decay(step, 50, warmup)


def test_the_recipe_says_whether_the_rate_decays(settings, new_run):
    rates = {}
    for decay in ("linear", "none"):
        run, model = new_run(decay), Small()
        given = settings(decay=decay, warmup=0.0, epochs=4)
        fit(model, Batches(), given, balance.make("equal"), run, target="a", save=lambda folder: None)
        lines = (run.path / "metrics.jsonl").read_text().splitlines()
        rates[decay] = [json.loads(line)["learning_rate"] for line in lines]
    assert rates["none"] == [1e-2] * 3
    assert rates["linear"] == pytest.approx([1e-2 * linear_decay(step - 1, 24, 0.0) for step in (10, 20, 24)])


def test_a_recipe_may_clip_at_infinity():
    table = override({"name": "a", "workload": "toy"}, ["training.clip_norm=inf", "training.decay=none"])
    recipe = validate(table, Recipe, "a")
    assert recipe.training.clip_norm == math.inf
    assert "clip_norm = inf\n" in to_toml(recipe)
    assert Recipe(name="a", workload="toy").training.decay == "linear"
