"""Methods that decide coordinate by coordinate: values by hand and against code on the vectors themselves."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as oracle
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler

from counterpoint.balance import DBMTL, CoordinateBalancer, GradDrop, MTAdam

SHAPES = ((3, 4), (5,), (2, 3))
BLOCKS = [(0, 12), (12, 17), (17, 23)]
FRESH: list[Callable[[], CoordinateBalancer]] = [
    GradDrop,
    lambda: GradDrop(leak=0.3, seed=4),
    DBMTL,
    lambda: DBMTL(beta=0.5, beta_sigma=0.5),
    MTAdam,
]
every_method = pytest.mark.parametrize("method", FRESH, ids=lambda method: repr(method()))


def random_gradients(tasks: int, coordinates: int, seed: int) -> Tensor:
    return torch.randn(tasks, coordinates, generator=torch.Generator().manual_seed(seed)).double()


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in SHAPES]


def linear_losses(shared: list[Tensor], gradients: Tensor, values: Tensor | None = None) -> dict[str, Tensor]:
    """Losses "a", "b", … of given values, whose gradients are the rows of a matrix."""
    losses = {}
    for index, row in enumerate(gradients):
        pieces = [row[start:stop].view(shape) for (start, stop), shape in zip(BLOCKS, SHAPES, strict=True)]
        linear = sum((each * piece).sum() for each, piece in zip(shared, pieces, strict=True))
        value = 1.0 if values is None else values[index]
        losses["abcdef"[index]] = linear - linear.detach() + value
    return losses


def merged(shared: list[Tensor]) -> Tensor:
    return torch.cat([each.grad.flatten() for each in shared])


def step(
    balancer: CoordinateBalancer, gradients: Tensor, values: Tensor | None = None, **options: Any
) -> Tensor:
    shared = parameters()
    balancer.backward(linear_losses(shared, gradients, values), shared=shared, **options)
    return merged(shared)


def through_files(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The state as a checkpoint restores it: JSON, with tensors and arrays in safetensors."""
    tensors: dict[str, Tensor] = {}

    def beside(value: Any) -> dict[str, Any]:
        assert isinstance(value, Tensor | np.ndarray)
        name = str(len(tensors))
        tensors[name] = torch.as_tensor(value).contiguous()
        return {"array": name, "numpy": isinstance(value, np.ndarray)}

    def back(value: dict[str, Any]) -> Any:
        if set(value) != {"array", "numpy"}:
            return value
        tensor = stored[value["array"]]
        return tensor.numpy() if value["numpy"] else tensor

    text = json.dumps(state, default=beside)
    save_file(tensors | {"none": torch.zeros(1)}, folder / "state.safetensors")
    stored = load_file(folder / "state.safetensors")
    restored: dict[str, Any] = json.loads(text, object_hook=back)
    return restored


# What holds for all of them.


@every_method
def test_backward_is_merge_by_parameters(method: Callable[[], CoordinateBalancer]) -> None:
    balancer, twin = method(), method()
    for seed in range(4):
        gradients, values = random_gradients(3, 23, seed), torch.rand(3).double() + 0.5
        expected = twin.merge(gradients, target=1, losses=values, blocks=BLOCKS, tasks=("a", "b", "c"))
        torch.testing.assert_close(step(balancer, gradients, values, target="b"), expected)


@every_method
def test_saved_in_the_middle_the_next_ten_steps_are_identical(
    method: Callable[[], CoordinateBalancer], tmp_path: Path
) -> None:
    first, second = method(), method()
    values = torch.tensor([0.5, 2.0, 1.0]).double()
    for seed in range(5):
        step(first, random_gradients(3, 23, seed), values)
    second.load_state_dict(through_files(first.state_dict(), tmp_path))
    for seed in range(5, 15):
        gradients = random_gradients(3, 23, seed)
        assert torch.equal(step(first, gradients, values), step(second, gradients, values))


@every_method
def test_degenerate_gradients(method: Callable[[], CoordinateBalancer]) -> None:
    g = random_gradients(3, 4, 0)
    for gradients in (
        torch.zeros(3, 4).double(),
        torch.cat([torch.zeros(1, 4), g]),
        torch.cat([g, g, -g]),
        g[:1] * torch.logspace(-10, 10, 16).double()[:, None] * torch.tensor([1.0, -1.0] * 8)[:, None],
        torch.cat([g, torch.zeros(3, 2)], dim=1),
    ):
        for size in (1e-25, 1.0, 1e25):
            balancer = method()
            for dtype in (torch.float64, torch.float32):
                for _ in range(3):
                    values = torch.linspace(1e-3, 10, len(gradients)).double()
                    result = method().merge((gradients * size).to(dtype), losses=values)
                    assert result.isfinite().all()
                    assert result.dtype == dtype
            for _ in range(3):
                assert balancer.merge(gradients * size, losses=values).isfinite().all()
    shared = parameters()
    report = method().backward(linear_losses(shared, torch.zeros(2, 23).double()), shared=shared)
    assert report.weights.isfinite().all()
    assert torch.equal(merged(shared), torch.zeros(23).double())


@every_method
def test_half_precision_is_merged_in_single(method: Callable[[], CoordinateBalancer]) -> None:
    # Small whole numbers, which either type holds exactly.
    rows = torch.tensor([[3.0, -5.0, 7.0, 2.0], [-2.0, -4.0, 1.0, 6.0]])
    values = torch.ones(2)
    for dtype in (torch.bfloat16, torch.float16):
        balancer, twin = method(), method()
        for sign in (1.0, -1.0, 1.0):
            result = balancer.merge(sign * rows.to(dtype), losses=values)
            expected = twin.merge(sign * rows, losses=values)
            assert torch.equal(result, expected.to(dtype))


@every_method
def test_a_scaler_s_factor_changes_nothing(method: Callable[[], CoordinateBalancer]) -> None:
    balancer, twin = method(), method()
    for seed in range(3):
        gradients, values = random_gradients(3, 23, seed), torch.tensor([0.5, 2.0, 1.0]).double()
        scaler = GradScaler("cpu", init_scale=1024.0)
        result = step(balancer, gradients, values, scaler=scaler)
        torch.testing.assert_close(result / 1024, step(twin, gradients, values))
    one, other = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    losses = {"a": torch.tensor(1.0), "b": one.sum() + 1}
    method().backward(losses, shared=[one, other], scaler=GradScaler("cpu", init_scale=1024.0))
    assert other.grad is None


@every_method
def test_what_is_handed_out_is_not_the_state(method: Callable[[], CoordinateBalancer]) -> None:
    balancer, shared = method(), parameters()
    balancer.backward(linear_losses(shared, random_gradients(1, 23, 0)), shared=shared)
    state = balancer.state_dict()
    for each in shared:
        each.grad.zero_()
    again = balancer.state_dict()
    torch.testing.assert_close(again, state, rtol=0, atol=0)


@every_method
def test_a_parameter_that_no_task_reaches_gets_nothing(method: Callable[[], CoordinateBalancer]) -> None:
    balancer, twin = method(), method()
    for seed in range(3):
        other = torch.ones(4, dtype=torch.float64, requires_grad=True)
        shared = parameters()
        gradients = random_gradients(2, 23, seed)
        balancer.backward(linear_losses(shared, gradients), shared=[*shared, other])
        assert other.grad is None
        torch.testing.assert_close(merged(shared), step(twin, gradients))


@every_method
def test_there_are_no_weights_without_coordinates(method: Callable[[], CoordinateBalancer]) -> None:
    with pytest.raises(TypeError, match=r"coordinate by coordinate; use merge\(\)"):
        method().weights(torch.eye(2), losses=torch.ones(2))


# GradDrop


def test_graddrop_takes_one_side_of_every_coordinate_in_proportion() -> None:
    # Of the pulls 3, 1, -2 the upward ones have ⅔ of the whole: P = ½ (1 + 2/6).
    column = torch.tensor([[3.0], [1.0], [-2.0]]).double()
    number = 20_000
    result = GradDrop(seed=1).merge(column.expand(3, number))
    up = result == 4.0
    assert (up | (result == -2.0)).all()
    deviation = (2 / 3 * 1 / 3 / number) ** 0.5
    assert float(up.double().mean()) == pytest.approx(2 / 3, abs=4 * deviation)


def test_graddrop_keeps_what_all_agree_on() -> None:
    agreeing = torch.tensor([[1.0, -2.0, 0.0, 0.0], [3.0, -0.5, 0.0, -1.0]])
    for seed in range(20):
        assert torch.equal(GradDrop(seed=seed).merge(agreeing), agreeing.sum(dim=0))
        torch.testing.assert_close(oracle.GradDrop()(agreeing), agreeing.sum(dim=0))


@pytest.mark.parametrize("leak", [0.0, 0.25])
def test_graddrop_is_torchjd_s_given_the_same_numbers(leak: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = random_gradients(4, 300, 2)
    shares = gradients.clamp(min=0).sum(dim=0) / gradients.abs().sum(dim=0)
    divided = (shares > 0) & (shares < 1)
    assert 200 < divided.sum() < 300  # numbers are drawn for these alone
    numbers = torch.full((300,), 0.5).double()
    drawn = np.random.default_rng((7, 0)).random(int(divided.sum()), dtype=np.float32)
    numbers[divided] = torch.from_numpy(drawn).double()
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: numbers)
    expected = oracle.GradDrop(leak=torch.full((4,), leak).double())(gradients)
    torch.testing.assert_close(GradDrop(leak=leak, seed=7).merge(gradients), expected)


def test_graddrop_leaks_by_task() -> None:
    gradients = torch.tensor([[3.0, -1.0], [-2.0, 2.0]])
    assert GradDrop(leak=1.0).merge(gradients).tolist() == [1.0, 1.0]
    seen = set()
    for seed in range(30):
        result = GradDrop(leak={"a": 0.5, "b": 0.0}, seed=seed).merge(gradients, tasks=("a", "b"))
        seen.add(tuple(result.tolist()))
    assert seen == {(3.0, 1.5), (3.0, -1.0), (-0.5, 1.5), (-0.5, -1.0)}


def test_graddrop_draws_afresh_at_every_step_and_the_same_however_it_is_cut() -> None:
    gradients = random_gradients(3, 23, 5)
    whole, cut = GradDrop(seed=3), GradDrop(seed=3)
    results = [whole.merge(gradients) for _ in range(5)]
    for expected in results:
        cuts = [(0, 1), (1, 2), (2, 9), (9, 9), (9, 23)]
        assert torch.equal(cut.merge(gradients, blocks=cuts), expected)
    assert len({tuple(each.tolist()) for each in results}) == 5
    assert not torch.equal(GradDrop(seed=4).merge(gradients), results[0])


@pytest.mark.parametrize("sparse", [False, True])
def test_graddrop_draws_the_same_for_the_touched_rows_of_a_table(sparse: bool) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(40, 3, sparse=sparse, dtype=torch.float64)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    words = {"a": torch.tensor([5, 1, 1]), "b": torch.tensor([1, 39]), "c": torch.tensor([0, 5, 7])}
    scale = {"a": 1.0, "b": -2.0, "c": 0.7}

    def losses() -> dict[str, Tensor]:
        return {task: scale[task] * (table(of_task) + bias).exp().sum() for task, of_task in words.items()}

    shared = [table.weight, bias]
    rows = [
        torch.cat([each.to_dense().flatten() for each in torch.autograd.grad(loss, shared)])
        for loss in losses().values()
    ]
    balancer, twin = GradDrop(), GradDrop()
    for _ in range(3):
        table.weight.grad = bias.grad = None
        balancer.backward(losses(), shared=shared)
        result = torch.cat([table.weight.grad.to_dense().flatten(), bias.grad])
        torch.testing.assert_close(result, twin.merge(torch.stack(rows)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e18])
def test_graddrop_reports_what_was_kept_of_every_gradient(size: float) -> None:
    gradients = torch.tensor([[1.0], [-1.0], [0.0]]) * random_gradients(1, 23, 1)
    shared = parameters(torch.float32)
    losses = linear_losses(shared, (gradients * size).float())
    report = GradDrop(leak=0.2).backward(losses, shared=shared)
    # The first two are opposite, so a coordinate of the sum tells which of them was kept there.
    kept = [torch.where((merged(shared).double() * row) > 0, row, 0.2 * row) for row in gradients[:2]]
    expected = [float(each @ row / (row @ row)) for each, row in zip(kept, gradients, strict=False)]
    np.testing.assert_allclose(report.weights, [*expected, 0.0], rtol=1e-5)
    assert sum(expected) == pytest.approx(1.2)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_graddrop_scales_with_the_gradients(factor: float) -> None:
    gradients = random_gradients(4, 200, 3)
    torch.testing.assert_close(
        GradDrop().merge(gradients * factor), GradDrop().merge(gradients) * factor, rtol=1e-12, atol=0
    )


# DB-MTL


def test_db_mtl_without_average_by_hand() -> None:
    # g / L is (1.5, 2) and (0, 4), of length 2.5 and 4: 4 (0.6, 0.8) + 4 (0, 1).
    gradients, losses = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([2.0, 0.5])
    torch.testing.assert_close(DBMTL(beta=0.0).merge(gradients, losses=losses), torch.tensor([2.4, 7.2]))
    # The first average is (1 - β) of that.
    torch.testing.assert_close(DBMTL(beta=0.9).merge(gradients, losses=losses), torch.tensor([0.24, 0.72]))


def test_db_mtl_without_average_is_a_function_of_the_gramian() -> None:
    balancer = DBMTL(beta=0.0)
    for seed in range(5):
        gradients, losses = random_gradients(4, 6, seed), torch.rand(4).double() + 0.1
        norms = (gradients @ gradients.T).diagonal().sqrt()
        weights = (norms / losses).max() / norms
        torch.testing.assert_close(balancer.merge(gradients, losses=losses), weights @ gradients)


def test_db_mtl_step_after_step() -> None:
    balancer = DBMTL(beta=0.8, beta_sigma=0.5)
    averages = {task: np.zeros(23) for task in "abc"}
    steps = dict.fromkeys("abc", 0)
    for seed, present in enumerate(["abc", "ab", "abc", "bc", "abc"]):
        gradients = random_gradients(3, 23, seed) * torch.tensor([[1.0], [30.0], [0.1]])
        values = torch.rand(3, generator=torch.Generator().manual_seed(seed)).double() + 0.1
        shared = parameters()
        losses = linear_losses(shared, gradients, values)
        report = balancer.backward({task: losses[task] for task in present}, shared=shared)
        factors = {}
        for task in present:
            index = "abc".index(task)
            steps[task] += 1
            decay = 0.8 / steps[task] ** 0.5
            logarithmic = gradients[index].numpy() / float(values[index])
            averages[task] = decay * averages[task] + (1 - decay) * logarithmic
            factors[task] = (1 - decay) / float(values[index])
        norms = {task: np.linalg.norm(averages[task]) for task in present}
        longest = max(norms.values())
        expected = sum(longest / norms[task] * averages[task] for task in present)
        np.testing.assert_allclose(merged(shared), expected, rtol=1e-10)
        weights = [longest / norms[task] * factors[task] for task in present]
        np.testing.assert_allclose(report.weights, weights, rtol=1e-10)


def test_db_mtl_does_not_see_a_loss_s_unit() -> None:
    first, second = DBMTL(), DBMTL()
    units = torch.tensor([1e-4, 1.0, 300.0]).double()
    for seed in range(4):
        gradients, losses = random_gradients(3, 5, seed), torch.rand(3).double() + 0.1
        torch.testing.assert_close(
            second.merge(units[:, None] * gradients, losses=units * losses),
            first.merge(gradients, losses=losses),
        )


def test_db_mtl_takes_losses_above_zero_alone() -> None:
    balancer, shared = DBMTL(), parameters()
    losses = linear_losses(shared, random_gradients(2, 23, 0), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"logarithms, and that of 'b' is 0: give it losses above zero"):
        balancer.backward(losses, shared=shared)
    assert all(each.grad is None for each in shared)
    assert balancer.state_dict() == {"steps": {}, "averages": {}}
    with pytest.raises(ValueError, match="losses="):
        balancer.merge(torch.eye(2))


# MTAdam


def test_mtadam_with_one_task_is_adam() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    twin = copy.deepcopy(model)
    balancer = MTAdam(lr=0.01)
    optimizer = balancer.optimizer(model.parameters())
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(20):
        words, labels = torch.randint(0, 20, (3,)), torch.randn(3, 1)
        optimizer.zero_grad()
        balancer.backward({"a": (model(words) - labels).square().mean()}, shared=model.parameters())
        optimizer.step()
        adam.zero_grad()
        (twin(words) - labels).square().mean().backward()
        adam.step()
    for mine, its in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)


def test_mtadam_leaves_a_head_under_adam() -> None:
    torch.manual_seed(0)
    trunk, heads = nn.Linear(4, 3).double(), nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)]).double()
    everything = [*trunk.parameters(), *heads.parameters()]
    twins = copy.deepcopy(heads)
    adam = torch.optim.Adam(twins.parameters(), lr=0.01)
    balancer = MTAdam(lr=0.01)
    optimizer = balancer.optimizer(everything)
    for _ in range(10):
        features = torch.randn(6, 4).double()
        adam.zero_grad()
        for task, twin in enumerate(twins):  # the same trunk, which goes its own way
            (twin(trunk(features).detach()) - task).square().mean().backward()
        adam.step()
        optimizer.zero_grad()
        losses = {
            str(task): (head(trunk(features)) - task).square().mean() for task, head in enumerate(heads)
        }
        balancer.backward(losses, shared=everything)
        optimizer.step()
        for mine, its in zip(heads.parameters(), twins.parameters(), strict=True):
            torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("target", [None, "b"])
def test_mtadam_step_after_step(target: str | None) -> None:
    # In the second parameter the first task has no gradient at first, and the third never has one.
    first, second, third, eps = 0.8, 0.95, 0.7, 1e-3
    balancer = MTAdam(betas=(first, second, third), eps=eps)
    names = "abc"
    norms, means, squares, counts = {}, {}, {}, {}
    for seed in range(6):
        gradients = random_gradients(3, 23, seed) * torch.tensor([[1.0], [20.0], [0.05]])
        gradients[0, 12:17] *= seed > 1
        gradients[2, 12:17] = 0.0
        expected = np.zeros(23)
        ratios = np.zeros((3, 3))
        for position, (start, stop) in enumerate(BLOCKS):
            rows = gradients[:, start:stop].numpy()
            for task, row in enumerate(rows):
                length, key = np.linalg.norm(row), (task, position)
                known = norms.get(key, 0.0)
                norms[key] = third * known + (1 - third) * length if known else length
            order = [1, 0, 2] if target == "b" else [0, 1, 2]
            anchor = next(norms[task, position] for task in order if norms[task, position])
            corrected, widths = [], []
            for task, row in enumerate(rows):
                key = (task, position)
                ratios[task, position] = anchor / norms[key] if norms[key] else 0.0
                g = ratios[task, position] * row
                counts[key] = counts.get(key, 0) + 1
                means[key] = first * means.get(key, 0.0) + (1 - first) * g
                squares[key] = second * squares.get(key, 0.0) + (1 - second) * g**2
                corrected.append(means[key] / (1 - first ** counts[key]))
                widths.append(np.sqrt(squares[key] / (1 - second ** counts[key])))
            expected[start:stop] = sum(corrected) / (np.max(widths, axis=0) + eps)
        shared = parameters()
        report = balancer.backward(linear_losses(shared, gradients), shared=shared, target=target)
        np.testing.assert_allclose(merged(shared), expected, rtol=1e-10, atol=1e-14)
        lengths = np.array([[float(g[start:stop].norm()) for start, stop in BLOCKS] for g in gradients])
        weights = np.linalg.norm(ratios * lengths, axis=1) / np.linalg.norm(lengths, axis=1)
        np.testing.assert_allclose(report.weights, weights, rtol=1e-10)
        assert report.tasks == tuple(names)


def test_mtadam_begins_where_a_task_first_reaches_a_parameter() -> None:
    balancer, shared = MTAdam(), [torch.zeros(2, requires_grad=True) for _ in range(2)]
    one, other = shared

    def losses(reaches: bool) -> dict[str, Tensor]:
        extra = (torch.tensor([1.0, -2.0]) * other).sum() if reaches else 0.0
        return {"a": (one * 3).sum(), "b": one.sum() + extra}

    for reaches in (False, False, True):
        one.grad = other.grad = None
        balancer.backward(losses(reaches), shared=shared)
    # Of Adam's first step every coordinate is ±1; those of two tasks of one norm are 2.
    torch.testing.assert_close(other.grad, torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(one.grad, torch.tensor([2.0, 2.0]))
    before = copy.deepcopy(balancer.state_dict())
    one.grad = other.grad = None
    balancer.backward({"a": losses(False)["a"]}, shared=shared)  # without b, and nothing reaches `other`
    assert other.grad is None
    torch.testing.assert_close(one.grad, torch.tensor([1.0, 1.0]))
    after = balancer.state_dict()
    for part in ("steps", "norms", "means", "spreads"):
        torch.testing.assert_close(after[part]["b"], before[part]["b"], rtol=0, atol=0)


def test_mtadam_does_not_see_the_unit_of_a_loss_that_is_no_anchor() -> None:
    first, second = MTAdam(), MTAdam()
    units = torch.tensor([1.0, 1e-12, 1e12]).double()
    for seed in range(4):
        gradients = random_gradients(3, 5, seed)
        torch.testing.assert_close(second.merge(units[:, None] * gradients), first.merge(gradients))


def test_mtadam_takes_a_whole_step_at_any_size() -> None:
    # Squares of 1e+25 overflow in single precision, and Adam would stand still.
    for size in (1e-3, 1.0, 1e25):
        gradients = torch.tensor([[size, -2 * size]])
        balancer = MTAdam()
        for _ in range(3):
            torch.testing.assert_close(
                balancer.merge(gradients), torch.tensor([1.0, -1.0]), rtol=2e-5, atol=0
            )


def test_mtadam_is_an_optimizer_of_its_own() -> None:
    shared = parameters()
    balancer = MTAdam(lr=0.25)
    optimizer = balancer.optimizer(shared)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    balancer.backward(linear_losses(shared, random_gradients(2, 23, 0)), shared=shared)
    update = merged(shared)
    for factor in (0.25, 0.125):
        before = torch.cat([each.detach().flatten() for each in shared])
        optimizer.step()
        after = torch.cat([each.detach().flatten() for each in shared])
        torch.testing.assert_close(before - after, factor * update)
        schedule.step()
    assert MTAdam.is_optimizer


@pytest.mark.parametrize("method", [DBMTL, MTAdam])
def test_moments_of_other_parameters_are_refused(method: type[CoordinateBalancer]) -> None:
    balancer = method()
    balancer.merge(random_gradients(2, 6, 0), losses=torch.ones(2))
    with pytest.raises(ValueError, match=r"share the same parameters in every step"):
        balancer.merge(random_gradients(2, 5, 0), losses=torch.ones(2))
    if method is MTAdam:
        with pytest.raises(ValueError, match=r"of 1 parameters, not 2: share the same"):
            balancer.merge(random_gradients(2, 6, 0), blocks=[(0, 3), (3, 6)])


@pytest.mark.parametrize("cuts", [[(0, 12), (12, 17), (17, 24)], [(0, 12), (12, 17)]])
@every_method
def test_a_step_that_is_refused_moves_nothing(
    method: Callable[[], CoordinateBalancer], cuts: list[tuple[int, int]], tmp_path: Path
) -> None:
    # "c" is new and comes first, and the first two parameters fit.
    balancer = method()
    for seed in range(2):
        balancer.merge(random_gradients(2, 23, seed), losses=torch.ones(2), blocks=BLOCKS, tasks=("a", "b"))
    before = through_files(balancer.state_dict(), tmp_path)
    gradients, values = random_gradients(3, cuts[-1][1], 2), torch.ones(3)
    if not balancer.buffers:
        assert balancer.merge(gradients, losses=values, blocks=cuts).isfinite().all()
        return
    with pytest.raises(ValueError, match="share the same parameters in every step"):
        balancer.merge(gradients, losses=values, blocks=cuts, tasks=("c", "a", "b"))
    torch.testing.assert_close(through_files(balancer.state_dict(), tmp_path), before, rtol=0, atol=0)
    twin = method()
    twin.load_state_dict(before)
    gradients = random_gradients(3, 23, 3)
    once, again = (each.merge(gradients, losses=values, blocks=BLOCKS) for each in (balancer, twin))
    assert torch.equal(once, again)


def test_db_mtl_follows_the_last_average_of_a_task_that_has_no_gradient_any_more() -> None:
    # Its average (0.5, 0) has been halved four times, and is drawn out to the length of the other's, 10.
    balancer = DBMTL(beta=0.5)
    first = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    balancer.merge(first, losses=torch.ones(2))
    later = first * torch.tensor([[0.0], [1.0]])
    for _ in range(4):
        merged = balancer.merge(later, losses=torch.ones(2))
    length = 10 * (1 - 0.5**5)
    torch.testing.assert_close(merged, torch.tensor([length, length]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GradDrop(leak=1.5), "leak must be between 0 and 1, not 1.5"),
        (lambda: GradDrop(leak={"a": -1.0}), "leak must be between 0 and 1, not -1.0"),
        (lambda: GradDrop(leak={"click": 0.1}).merge(torch.eye(1), tasks=["clik"]), "did you mean 'click'"),
        (lambda: DBMTL(beta=1.0), "beta must be from 0 to below 1, not 1.0"),
        (lambda: DBMTL(beta_sigma=-1.0), "beta_sigma must be between 0 and 1"),
        (lambda: MTAdam(lr=0.0), "lr must be a positive finite number"),
        (lambda: MTAdam(eps=0.0), "eps must be a positive finite number"),
        (lambda: MTAdam(betas=(0.9, 0.999)), "betas must be three"),
        (lambda: MTAdam(betas=(0.9, 1.0, 0.9)), "betas must be from 0 to below 1, not 1.0"),
    ],
)
def test_wrong_options_name_the_remedy(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
