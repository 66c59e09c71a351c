"""Balanced steps against a step of the summed losses: time, peak memory, and torchjd beside them.

    python -m benchmarks.balance WORK STEP    # what one of the steps takes at its peak, in bytes

A step is forward and backward and leaves gradients, without an optimizer.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchjd import autojac
from torchjd.aggregation import PCGrad, PCGradWeighting

from benchmarks.measure import Ratio, interleaved, ratios, threads
from counterpoint import balance
from counterpoint.balance import Balancer, engine
from counterpoint.training.memory import peak_megabytes

Losses = dict[str, Tensor]


class Network(nn.Module):
    """A trunk of 0.7 million parameters and small heads: 384 examples, 20 ms a step of two tasks."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        sizes = (256, 512, 512, 512)
        layers = (layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU()))
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(sizes[-1], 64), nn.ReLU(), nn.Linear(64, 1)) for _ in range(tasks)
        )
        self.examples = torch.randn(384, sizes[0])
        self.wanted = torch.randn(tasks, 384, 1)

    def forward(self) -> tuple[Tensor, Losses]:
        features = self.trunk(self.examples)
        return features, _errors(self.heads, features, self.wanted)


class Encoder(nn.Module):
    """Six layers of width 384 with MiniLM's table of 30,522 words; three tasks on 16 texts of 20 words."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        config = BertConfig(
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
        )
        self.trunk = BertModel(config, add_pooling_layer=False)
        self.heads = nn.ModuleList(nn.Linear(384, classes) for classes in (2, 17, 5))
        self.words = torch.randint(config.vocab_size, (16, 20))
        self.classes = [torch.randint(head.out_features, (16,)) for head in self.heads]

    def forward(self, vectors: Tensor | None = None) -> tuple[Tensor, Losses]:
        """Return the texts' mean vectors and the losses, of the words or of vectors looked up for them."""
        inputs = {"input_ids": self.words} if vectors is None else {"inputs_embeds": vectors}
        features = self.trunk(**inputs).last_hidden_state.mean(1)
        pairs = zip(self.heads, self.classes, strict=True)
        return features, {
            f"task {k}": functional.cross_entropy(head(features), y) for k, (head, y) in enumerate(pairs)
        }


class Lookups(nn.Module):
    """A table of embeddings below a small trunk; 512 examples of 8 look-ups, others in every step."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 64, sparse=True)
        layers = (nn.Linear(8 * 64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.trunk = nn.Sequential(self.table, nn.Flatten(), *layers)
        self.heads = nn.ModuleList(nn.Linear(128, 1) for _ in range(3))
        self.wanted = torch.randn(3, 512, 1)
        self.random = torch.Generator().manual_seed(0)

    def forward(self) -> tuple[Tensor, Losses]:
        features = self.trunk(torch.randint(len(self.table.weight), (512, 8), generator=self.random))
        return features, _errors(self.heads, features, self.wanted)


Model = Network | Encoder | Lookups
Step = Callable[[Model], object]


def summed(model: Model) -> None:
    model.zero_grad()
    _, losses = model()
    torch.stack(list(losses.values())).sum().backward()


def balanced(balancer: Balancer) -> Step:
    def step(model: Model) -> None:
        model.zero_grad()
        features, losses = model()
        given = features if balancer.at_representation() else None
        balancer.backward(losses, shared=model.trunk.parameters(), target="task 0", representation=given)

    return step


def torchjd(model: Model) -> None:
    """Take a step of torchjd's PCGrad with its fastest settings; of a table, the rows looked up alone."""
    model.zero_grad()
    shared = list(model.trunk.parameters())
    if isinstance(model, Encoder):
        table = model.trunk.embeddings.word_embeddings.weight
        touched, places = model.words.unique(return_inverse=True)
        rows = table.detach()[touched].requires_grad_()
        shared = [rows, *(each for each in shared if each is not table)]
        features, losses = model(functional.embedding(places, rows))
    else:
        features, losses = model()
    autojac.mtl_backward(list(losses.values()), features=features, parallel_chunk_size=1)
    autojac.jac_to_grad(shared, PCGrad(), optimize_gramian_computation=True)


WORKS: dict[str, Callable[[], Model]] = {
    "MLP, 2 tasks": lambda: Network(2),
    "MLP, 4 tasks": lambda: Network(4),
    "MLP, 8 tasks": lambda: Network(8),
    "encoder, 3 tasks": Encoder,
}
STEPS: dict[str, Callable[[], Step]] = {
    "summed": lambda: summed,
    "torchjd": lambda: torchjd,
    "PCGrad": lambda: balanced(balance.make("pcgrad")),
    "MetaBalance": lambda: balanced(balance.make("metabalance")),
    "MTRec": lambda: balanced(balance.make("mtrec")),
    "PCGrad, representation": lambda: balanced(balance.make("pcgrad", passes="representation")),
}
TARGETS: dict[str, dict[str, float]] = {
    "MLP, 2 tasks": {"PCGrad": 1.75},
    "MLP, 4 tasks": {"PCGrad": 2.80},
    "MLP, 8 tasks": {"PCGrad": 4.30},
    "encoder, 3 tasks": {"PCGrad": 2.45, "MetaBalance": 2.40, "MTRec": 1.80, "PCGrad, representation": 1.05},
}
ROUNDS = {Network: 61, Encoder: 15}
BALLAST = 1 << 28
"""Bytes: more than imports ever took beyond what is in use when a step begins."""


def run() -> list[Ratio]:
    """Return the ratios; fails where torchjd and we disagree on the gradient of two tasks."""
    peaks = {work: {step: peak(work, step) for step in _steps(work)} for work in TARGETS}
    measured = [algebra()]
    for number in range(1, min(2, torch.get_num_threads()) + 1):
        with threads(number):
            for work, targets in TARGETS.items():
                times, parts = _times(work, time.process_time if number == 1 else time.perf_counter)
                for step in targets:
                    ratio = _ratio(work, step, number, times, peaks[work])
                    measured.append(replace(ratio, beside="; ".join([ratio.beside, *parts.get(step, ())])))
    return [*measured, *tables()]


def peak(work: str, step: str) -> int:
    """Return how many bytes a step takes at its peak beside the model, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.balance", work, step],
        cwd=Path(__file__).parent.parent,
        # With glibc, tensors are then mapped and unmapped one by one: what is resident is what is in use.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


def tables() -> list[Ratio]:
    """Return what a large table of embeddings costs a step, with sparse and with dense gradients."""
    with torch.random.fork_rng(), threads(1):
        torch.manual_seed(0)
        small, large = Lookups(20_000), Lookups(2_000_000)
        return [_growth(small, large), _dense_table(large)]


def algebra() -> Ratio:
    """Return the microseconds that the weights of eight tasks take, given their inner products."""
    rows = torch.randn(8, 30, generator=torch.Generator().manual_seed(0)).double()
    gramian = rows @ rows.T
    balancer, weighting = balance.make("pcgrad"), PCGradWeighting()
    calls = 50

    def repeated(call: Callable[[Tensor], object]) -> Callable[[], None]:
        def repeat() -> None:
            for _ in range(calls):
                call(gramian)

        return repeat

    with threads(1):
        seconds = interleaved(
            {"ours": repeated(balancer.weights), "torchjd": repeated(weighting)},
            rounds=21,
            clock=time.process_time,
        )
    ours, theirs = (seconds[name] / calls * 1e6 for name in ("ours", "torchjd"))
    return Ratio(
        "the algebra of PCGrad, 8 tasks",
        "a budget in microseconds",
        ours,
        100,
        at_least=False,
        unit=" µs",
        beside=f"torchjd {theirs:.0f} µs",
    )


def _ratio(work: str, step: str, number: int, times: dict[str, float], peaks: dict[str, int]) -> Ratio:
    def measured(name: str) -> str:
        return f"peak memory {peaks[name] / peaks['summed']:.2f}x"

    beside = measured(step)
    if step == "PCGrad":
        beside += f"; torchjd {times['torchjd']:.2f}x, {measured('torchjd')}"
    return Ratio(
        f"{step}: {work}",
        f"the summed losses, {number} thread{'s' * (number > 1)}",
        times[step],
        TARGETS[work][step],
        at_least=False,
        beside=beside,
    )


def _growth(small: Lookups, large: Lookups) -> Ratio:
    """Return a step with the large table against one with the small one; gradients are sparse."""
    balanced_step = STEPS["PCGrad"]()
    seconds = interleaved(
        {
            "small": lambda: balanced_step(small),
            "large": lambda: balanced_step(large),
            "small, summed": lambda: summed(small),
            "large, summed": lambda: summed(large),
        },
        rounds=41,
        clock=time.process_time,
    )
    return Ratio(
        f"PCGrad: sparse table of {len(large.table.weight):,} rows, 3 tasks",
        f"the same step with {len(small.table.weight):,} rows, 1 thread",
        seconds["large"] / seconds["small"],
        1.25,  # no work of a step may grow with the table; its rows lie farther apart in memory
        at_least=False,
        beside=f"the summed losses {seconds['large, summed'] / seconds['small, summed']:.2f}x",
    )


def _dense_table(model: Lookups) -> Ratio:
    """Return a step whose gradient is as large as the table, read once as an optimizer would.

    The two steps do not take turns: each would pay for the memory as the other left it.
    """
    model.table.sparse = False

    def seconds(step: Step) -> float:
        def read() -> None:
            step(model)
            assert model.table.weight.grad is not None
            model.table.weight.grad.sum()
            model.zero_grad()

        return interleaved({"": read}, rounds=11, clock=time.process_time)[""]

    return Ratio(
        f"PCGrad: dense table of {len(model.table.weight):,} rows, 3 tasks",
        "the summed losses, 1 thread",
        seconds(STEPS["PCGrad"]()) / seconds(summed),
        2.33,  # (1 + 2 · 3) / 3, three plain passes; less as only one gradient of the table is made
        at_least=False,
    )


def _errors(heads: nn.ModuleList, features: Tensor, wanted: Tensor) -> Losses:
    pairs = zip(heads, wanted, strict=True)
    return {f"task {k}": functional.mse_loss(head(features), y) for k, (head, y) in enumerate(pairs)}


def _times(work: str, clock: Callable[[], float]) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return how many steps of the summed losses every other takes, and what of that is not its passes."""
    model = _model(work)
    steps = {name: STEPS[name]() for name in _steps(work)}
    if len(model.heads) == 2:  # with more, PCGrad's result depends on its random order
        _agree(model, steps["PCGrad"], steps["torchjd"])
    calls = {name: lambda step=step: step(model) for name, step in steps.items()}  # type: ignore[misc]
    baseline, rounds = calls.pop("summed"), ROUNDS[type(model)]
    found = ratios(baseline, calls, rounds=rounds, clock=clock)
    if type(model) is not Encoder:
        return found, {}
    one = interleaved({"": baseline}, rounds=rounds, clock=clock)[""]
    exact = [name for name in TARGETS[work] if "representation" not in name]
    return found, {name: _parts(calls[name], one, rounds, clock) for name in exact}


def _parts(call: Callable[[], object], one: float, rounds: int, clock: Callable[[], float]) -> list[str]:
    """Return what a step spends outside of its passes, in steps of the summed losses."""
    taken: dict[str, list[float]] = {}

    def timed(name: str) -> Callable[..., object]:
        function = getattr(engine, name)

        def wrapper(*arguments: object) -> object:
            start = clock()
            result = function(*arguments)
            taken.setdefault(name, []).append(clock() - start)
            return result

        return wrapper

    names = {"inner_products": "inner products", "combine": "weighted sum", "add_grads": "filling `.grad`"}
    with ExitStack() as patched:
        for name in names:
            patched.enter_context(mock.patch.object(engine, name, timed(name)))
        for _ in range(rounds):
            call()
    return [f"{told} {statistics.median(taken[name]) / one:.2f}x" for name, told in names.items()]


def _agree(model: Model, *steps: Step) -> None:
    results = []
    for step in steps:
        step(model)
        results.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def _steps(work: str) -> list[str]:
    return ["summed", *TARGETS[work], "torchjd"]


def _model(work: str) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WORKS[work]().train()


def _print_peak(work: str, name: str) -> None:
    model, step = _model(work), STEPS[name]()
    ballast = torch.ones(BALLAST, dtype=torch.uint8)  # so that the peak so far lies below `before`
    step(model)  # what is made once, on first use, belongs to no step
    model.zero_grad()
    before = psutil.Process().memory_info().rss
    step(model)
    del ballast
    print(round(1e6 * peak_megabytes()) - before)


if __name__ == "__main__":
    _print_peak(*sys.argv[1:])
