"""The examples run as a user would run them, learn, and go on from a checkpoint as if never stopped."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def example() -> Callable[[str], ModuleType]:
    """Import an example by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_without_a_word_of_warning(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cosine" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_plain_loop_learns_both_tasks(example: Callable[[str], ModuleType]) -> None:
    first, *_, last = example("plain_loop").main(steps=100)
    assert first.tasks == ("click", "minutes")
    assert (last.losses < first.losses / 2).all()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("method", ["pcgrad", "gradnorm"])
def test_lightning_learns_both_tasks_and_resumes_the_balancer(
    method: str, example: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = example("lightning_manual")
    torch.manual_seed(0)
    model = module.ClicksAndMinutes(method)
    first = module.fit(model, 1).callback_metrics
    trained = module.fit(model, 8)
    trained.save_checkpoint(tmp_path / "model.ckpt")
    for task in ("click", "minutes"):
        assert trained.callback_metrics[f"loss/{task}"] < first[f"loss/{task}"] / 2
    state = model.balancer.state_dict()
    assert str(state) != str(module.ClicksAndMinutes(method).balancer.state_dict())
    resumed = module.ClicksAndMinutes(method)
    module.fit(resumed, 8, resume=tmp_path / "model.ckpt")  # nothing is left to train
    torch.testing.assert_close(resumed.balancer.state_dict(), state, rtol=0, atol=0)


@pytest.mark.slow
def test_a_resumed_trainer_ends_where_an_uninterrupted_one_does(
    example: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = example("hugging_face_trainer")
    whole = module.trainer(str(tmp_path / "whole"), 40)
    whole.train()
    resumed = module.trainer(str(tmp_path / "resumed"), 40)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-20"))
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] / 4
    assert whole.report.tasks == ("click", "topic")
    assert whole.balancer.state_dict() == {"draws": 160}  # four batches a step
    assert resumed.balancer.state_dict() == {"draws": 160}
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_the_trainer_accumulates_the_mean_of_the_batches(
    example: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = example("hugging_face_trainer")
    trainer = module.trainer(str(tmp_path), 1)
    model = trainer.model
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    batch = next(iter(trainer.get_train_dataloader()))
    total = float(sum(loss.detach() for loss in model(**batch).values()))
    gradients = {}
    for batches in (1, 4):
        model.zero_grad()
        trainer.current_gradient_accumulation_steps = batches
        losses = [trainer.training_step(model, batch) for _ in range(batches)]
        assert float(sum(losses)) == pytest.approx(total)
        gradients[batches] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(gradients[4], gradients[1])
