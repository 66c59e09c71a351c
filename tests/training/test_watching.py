"""What a training tells while it goes on, and how it is ended from outside."""

import json
import subprocess
import sys

import numpy as np
import pytest

from counterpoint import balance
from counterpoint.training.loop import StopTraining, fit
from counterpoint.training.memory import forget_peak, peak_megabytes


@pytest.fixture
def train(toy, batches, settings):
    def go(run, method="equal", values=(0.5, 0.7, 0.6), observe=None, **given):
        measured = iter(values)
        return fit(
            toy(),
            batches(6),
            settings(**{"epochs": 1, "validate_every": 2, **given}),
            balance.make(method),
            run,
            target="a",
            save=lambda folder: (folder / "saved").touch(),
            validate=lambda: {"auc": next(measured)},
            metric="auc",
            observe=observe,
        )

    return go


def lines(run, name):
    return [json.loads(line) for line in (run.path / f"{name}.jsonl").read_text().splitlines()]


def test_an_observer_sees_every_validation(train, new_run):
    seen = []
    fitted = train(new_run(), observe=lambda step, value: seen.append((step, value)))
    assert seen == [(2, 0.5), (4, 0.7), (6, 0.6)]
    assert (fitted.best, fitted.best_step) == (0.7, 4)


def test_an_observer_ends_the_training_at_a_validation(train, new_run):
    def stop(step, value):
        if value == 0.7:
            raise StopTraining

    run = new_run()
    with pytest.raises(StopTraining):
        train(run, observe=stop)
    assert [line["step"] for line in lines(run, "balance")] == [1, 2, 3, 4]
    assert (run.path / "model" / "saved").exists()


def test_the_last_validation_has_nothing_to_stop(train, new_run):
    def stop(step, value):
        if step == 6:
            raise StopTraining

    assert train(new_run(), observe=stop).best == 0.7


def test_a_validation_without_a_value_is_not_told(train, new_run):
    seen = []
    fitted = train(new_run(), values=[float("nan")] * 3, observe=lambda *told: seen.append(told))
    assert seen == []
    assert fitted.best is None


def test_the_time_of_an_interrupted_training_counts_as_far_as_its_checkpoint(train, new_run, monkeypatch):
    def stop(step, value):
        if step == 4:
            raise StopTraining

    clock = [0.0]

    def monotonic():
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr("counterpoint.training.loop.time.monotonic", monotonic)
    run = new_run()
    with pytest.raises(StopTraining):
        train(run, observe=stop, checkpoint_every=2)
    (saved,) = (run.path / "checkpoints").glob("*/state.json")
    before = json.loads(saved.read_text())["loop"]["seconds"]
    assert before > 2
    begun = clock[0]
    fitted = train(run, values=[0.7, 0.6], checkpoint_every=2)
    assert fitted.seconds == pytest.approx(before + clock[0] - begun, abs=2)


def test_the_median_time_of_a_step_is_logged(train, new_run):
    run = new_run()
    train(run)
    (line,) = [line for line in lines(run, "metrics") if "losses" in line]
    assert 0 < line["seconds_per_step"] < 10


@pytest.mark.parametrize(("every", "apart"), [(None, []), (3, [1, 4]), (1, [1, 2, 3, 4, 5, 6])])
def test_gradients_are_looked_at_apart_now_and_then(every, apart, train, new_run):
    run, plain = new_run(), new_run("plain")
    train(run, diagnose_every=every)
    train(plain)
    logged = lines(run, "balance")
    assert [line["step"] for line in logged if "a|b" in line["cosines"]] == apart
    for line, other in zip(logged, lines(plain, "balance"), strict=True):
        assert line["losses"] == pytest.approx(other["losses"], rel=1e-4)  # it changes nothing


def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    big = np.ones(60_000_000)  # 480 MB, all touched
    program = "from counterpoint.training.memory import peak_megabytes; print(peak_megabytes())"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert float(printed.stdout) < peak_megabytes() - big.nbytes / 2e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the peak begin anew")
def test_the_peak_begins_anew():
    big = np.ones(20_000_000)  # 160 MB, all touched
    before = peak_megabytes()
    del big
    forget_peak()
    assert peak_megabytes() < before - 100
