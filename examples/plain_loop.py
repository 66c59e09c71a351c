"""The balancing alone, in a training loop of one's own: python examples/plain_loop.py"""

import torch
from torch import nn

from counterpoint import balance


def main(steps: int = 200) -> list[balance.Report]:
    """Train two heads on one trunk and return what every step did to their gradients."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
    clicks, minutes = nn.Linear(32, 1), nn.Linear(32, 1)
    optimizer = torch.optim.Adam([*trunk.parameters(), *clicks.parameters(), *minutes.parameters()], lr=0.01)
    balancer = balance.make("pcgrad")
    reports = []
    for _ in range(steps):
        views = torch.randn(64, 8)
        clicked = (views[:, :1] > 0).float()
        read = views[:, :1] * -2 + views[:, 1:2]
        vectors = trunk(views)
        losses = {
            "click": nn.functional.binary_cross_entropy_with_logits(clicks(vectors), clicked),
            "minutes": nn.functional.mse_loss(minutes(vectors), read),
        }
        optimizer.zero_grad()
        reports.append(balancer.backward(losses, shared=trunk.parameters()))
        optimizer.step()
    return reports


if __name__ == "__main__":
    reports = main()
    for name, loss in reports[-1].as_dict()["losses"].items():
        print(f"{name}: loss {reports[0].as_dict()['losses'][name]:.3f} at first, {loss:.3f} at last")
    conflicts = [bool(report.conflicts[0, 1]) for report in reports]
    print(
        f"conflict in {sum(conflicts)} of {len(conflicts)} steps; last cosine {reports[-1].cosines[0, 1]:.2f}"
    )
