"""The balancing in PyTorch Lightning, manually and on one process: python examples/lightning_manual.py"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from counterpoint import balance


class ClicksAndMinutes(lightning.LightningModule):
    """Two heads on one trunk; the balancer makes one gradient of the trunk of their two.

    Use one process: Lightning's data-parallel strategies would reduce the gradients a second time.
    """

    def __init__(self, method: str = "pcgrad") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.balancer = balance.make(method)
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.heads = nn.ModuleDict({"click": nn.Linear(32, 1), "minutes": nn.Linear(32, 1)})

    def training_step(self, batch: list[Tensor], number: int) -> None:
        """Take one step."""
        views, clicked, read = batch
        vectors = self.trunk(views)
        losses = {
            "click": nn.functional.binary_cross_entropy_with_logits(self.heads["click"](vectors), clicked),
            "minutes": nn.functional.mse_loss(self.heads["minutes"](vectors), read),
        }
        optimizer = self.optimizers()
        optimizer.zero_grad()
        report = self.balancer.backward(losses, shared=self.trunk.parameters(), target="click")
        optimizer.step()
        self.log_dict({f"loss/{task}": loss.detach() for task, loss in losses.items()})
        self.log("cosine", report.cosines[0, 1].float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what the balancer has learnt beside the weights."""
        checkpoint["balancer"] = self.balancer.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.balancer.load_state_dict(checkpoint["balancer"])


def fit(model: ClicksAndMinutes, epochs: int, resume: Path | None = None) -> lightning.Trainer:
    """Train on made-up views, up to this number of epochs in all, and return the trainer."""
    draw = torch.Generator().manual_seed(0)
    views = torch.randn(512, 8, generator=draw)
    data = TensorDataset(views, (views[:, :1] > 0).float(), views[:, 1:2] - 2 * views[:, :1])
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,  # save_checkpoint below does
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True), ckpt_path=resume)
    return trainer


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's own
    torch.set_num_threads(1)  # a model this small only loses by sharing its work
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "half.ckpt")
        half = fit(ClicksAndMinutes(), 5)
        half.save_checkpoint(checkpoint)
        whole = fit(ClicksAndMinutes(), 10, resume=checkpoint)
    for epochs, trainer in ((5, half), (10, whole)):
        print(epochs, "epochs:", {name: f"{value:.3f}" for name, value in trainer.callback_metrics.items()})
