import json
import multiprocessing
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

import counterpoint
from counterpoint.simulation.news.mind import simulate

PARTS = ["counterpoint.news.workload", "counterpoint.training.loop", "transformers.models.bert.modeling_bert"]
TIMES = {"examples_per_second", "seconds_per_step"}
SETTINGS = [
    "balance.method=pcgrad",
    "training.epochs=2",
    "training.batch_size=8",
    "training.checkpoint_every=5",
    "training.validate_every=8",
    "training.head_learning_rate=0.01",
    "training.learning_rate=0.001",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "site"
    simulate(folder, readers=150, articles=80, candidates=(4, 10))
    return folder


def work(log: Path, environment: dict[str, str], encoder: Path, data: Path, out: Path, settings: list[str]):
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    settings = [f"encoder.name={encoder}", "encoder.dropout=0.1", *settings]
    counterpoint.train("mtrec", data=data, out=out, settings=settings, resume=True, seed=5)
    assert PartialState(cpu=True).num_processes == int(environment.get("WORLD_SIZE", "1"))


@pytest.fixture(scope="module")
def context():
    """Processes of this context are forked from one that has imported what takes long."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PARTS)
    return found


@pytest.fixture
def start(tiny_encoder, site, tmp_path, context):
    """Start a training in a process of its own; several, as torchrun would, with ``processes``."""

    def go(out, *settings, processes=1):
        environment = {"COUNTERPOINT_CACHE": str(site.parent / "cache"), "OMP_NUM_THREADS": "1"}
        if processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
            environment |= address | {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        started = []
        for rank in range(processes):
            own = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
            log = tmp_path / f"{out.name}.log"
            given = (log, own, tiny_encoder, site, out, [*SETTINGS, *settings])
            started.append(context.Process(target=work, args=given))
            started[-1].start()
        return started

    return go


def finish(processes, tmp_path, out):
    for process in processes:
        process.join()
        assert process.exitcode == 0, (tmp_path / f"{out.name}.log").read_text()[-3000:]


def lines(run, name):
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def weights(run):
    (checkpoint,) = (run / "checkpoints").iterdir()
    return load_file(checkpoint / "model.safetensors")


def timeless(run):
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines(run, "metrics")]


@pytest.mark.slow
def test_killed_again_and_again_training_ends_with_the_same_bits(start, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole), tmp_path, whole)
    chance = random.Random(11)
    checkpoints = broken / "checkpoints"
    moments = [
        lambda: (broken / "balance.jsonl").exists(),  # before the first checkpoint
        lambda: any(checkpoints.glob(".step-*.part/*")),  # while one is written
        lambda: any(checkpoints.glob("step-*[1-9]?")),  # anywhere later on
    ]
    killed = 0
    for moment in moments:
        (process,) = start(broken)
        while process.is_alive() and not moment():
            time.sleep(0.0005)
        if moment is moments[-1]:
            time.sleep(chance.random() / 5)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed == 3
    finish(start(broken), tmp_path, broken)

    expected, actual = weights(whole), weights(broken)
    assert set(expected) == set(actual)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name
    for name, value in load_file(whole / "model" / "model.safetensors").items():
        assert torch.equal(load_file(broken / "model" / "model.safetensors")[name], value), name
    assert lines(broken, "balance") == lines(whole, "balance")
    assert timeless(broken) == timeless(whole)
    steps = [line["step"] for line in lines(broken, "balance")]
    assert steps == list(range(1, len(steps) + 1))
    assert json.loads((broken / "run.json").read_text())["status"] == "done"
    assert not [path.name for path in broken.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(start, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    # Auxiliary losses are means over each process's titles, so that only the click task is the same sum.
    alike = [
        "balance.method=equal",
        'tasks=["click"]',
        "encoder.dropout=0",
        "training.precision=fp32",
        "training.epochs=1",
        "training.optimizer=adamw",
    ]
    finish(start(one, *alike), tmp_path, one)
    finish(start(two, *alike, processes=2), tmp_path, two)
    first, second = lines(one, "balance"), lines(two, "balance")
    assert [line["step"] for line in first] == [line["step"] for line in second]
    # All but the last step have equal shares.
    for mine, its in zip(first[:-1], second[:-1], strict=True):
        assert mine["losses"]["click"] == pytest.approx(its["losses"]["click"], rel=1e-3)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=0.02, atol=1e-3)


@pytest.mark.slow
def test_two_processes_balance_three_tasks_and_resume(start, tmp_path):
    run = tmp_path / "three"
    finish(start(run, "balance.method=mtrec", "training.epochs=1", processes=2), tmp_path, run)
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "done"
    steps = lines(run, "balance")
    assert set(steps[0]["losses"]) == {"click", "category", "entities"}
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    # Started again, a finished run stays as it is.
    before = (run / "balance.jsonl").read_bytes()
    finish(start(run, processes=2), tmp_path, run)
    assert (run / "balance.jsonl").read_bytes() == before
