"""The balancing in the Hugging Face Trainer, on one process: python examples/hugging_face_trainer.py"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

from counterpoint import balance


class BalancedTrainer(Trainer):
    """A Trainer of models that return a loss for every task, `{"click": …, "topic": …}`.

    With gradient accumulation every batch is balanced by itself and the merged gradients add up. Use one
    process: `DistributedDataParallel` would reduce the gradients a second time.
    """

    def __init__(
        self, *args: Any, balancer: balance.Balancer, target: str | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.balancer, self.target = balancer, target
        self.report: balance.Report | None = None

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Fill `.grad` and return the sum of the losses; the Trainer steps."""
        model.train()
        with self.compute_loss_context_manager():
            losses = model(**self._prepare_inputs(inputs))
        losses = {task: loss / self.current_gradient_accumulation_steps for task, loss in losses.items()}
        self.report = self.balancer.backward(losses, target=self.target, scaler=self.accelerator.scaler)
        return torch.stack([loss.detach() for loss in losses.values()]).sum()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        torch.save(self.balancer.state_dict(), Path(output_dir, "balancer.pt"))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.balancer.load_state_dict(torch.load(Path(checkpoint, "balancer.pt")))


class ClicksAndTopics(nn.Module):
    """A small BERT with two heads."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=8,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.heads = nn.ModuleDict({"click": nn.Linear(32, 2), "topic": nn.Linear(32, 4)})

    def forward(self, input_ids: Tensor, click: Tensor, topic: Tensor) -> dict[str, Tensor]:
        """Return the loss of every task."""
        vectors = self.encoder(input_ids=input_ids).last_hidden_state.mean(1)
        return {
            "click": nn.functional.cross_entropy(self.heads["click"](vectors), click),
            "topic": nn.functional.cross_entropy(self.heads["topic"](vectors), topic),
        }


def titles(number: int) -> list[dict[str, Tensor]]:
    """Return made-up titles: every topic has sixteen words of its own, two topics are clicked."""
    topics = torch.randint(4, (number,))
    words = torch.randint(16, (number, 8)) + 16 * topics[:, None]
    return [{"input_ids": w, "click": t % 2, "topic": t} for w, t in zip(words, topics, strict=True)]


def trainer(folder: str, steps: int) -> BalancedTrainer:
    """Return a trainer for so many steps of four batches each."""
    torch.manual_seed(0)
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=4,
        learning_rate=3e-3,
        logging_steps=10,
        save_steps=20,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    balancer = balance.make("pcgrad")
    return BalancedTrainer(
        ClicksAndTopics(), arguments, train_dataset=titles(1024), balancer=balancer, target="click"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)  # a model this small only loses by sharing its work
    with tempfile.TemporaryDirectory() as folder:
        trainer(folder, 20).train()
        resumed = trainer(folder, 40)
        resumed.train(resume_from_checkpoint=True)
    print(resumed.report.as_dict())
