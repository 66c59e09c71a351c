"""A network for each task, none of them shared: what several tasks at once are measured against."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Schema
from counterpoint.feedback.models.network import FeedbackNetwork


class SeparateNetworks(nn.Module):
    """Single-task networks that train side by side on the same batches (paper 5's Single).

    Nothing is shared and the losses are summed, so that each network takes the very steps that it would take
    alone. Each is stopped early by itself: its best weights by its own validation metric are kept, and after
    ``patience`` validations without progress it is not looked at any more. What is kept and the counts are in
    the state, so that an interrupted training goes on as it would have.

    Args:
        schema: the columns and the labels.
        networks: one of each label.
        patience: validations without progress; none to go on for ever.

    Attributes:
        schema: as given.
    """

    validations: Tensor
    best: Tensor

    def __init__(
        self, schema: Schema, networks: Sequence[FeedbackNetwork], patience: int | None = None
    ) -> None:
        super().__init__()
        self.schema, self._patience = schema, patience
        self.networks = nn.ModuleList(networks)
        # Not as modules: what is kept has no parameters of its own.
        for place, tensor in enumerate(self.networks.state_dict().values()):
            self.register_buffer(f"kept{place}", tensor.detach().clone())
        self.register_buffer("best", torch.full((len(schema.labels),), -torch.inf, dtype=torch.float64))
        self.register_buffer("validations", torch.zeros(len(schema.labels), dtype=torch.int64))

    def losses(self, batch: FeedbackBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of each network."""
        losses: dict[str, Float[Tensor, ""]] = {}
        for place, each in enumerate(self.alone()):
            own = replace(batch, labels=batch.labels[:, place : place + 1])
            losses.update(each.losses(own))
        return losses

    def logits(self, batch: FeedbackBatch) -> Float[Tensor, "rows labels"]:
        """Return the logit of each label, as the networks are now."""
        return torch.cat([each.logits(batch) for each in self.alone()], dim=1)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all: each has the gradient of its own loss and no other, so their sum is that gradient."""
        return self.networks.parameters()

    @torch.no_grad()
    def keep_better(self, metric: Mapping[str, float]) -> dict[str, float]:
        """Keep the networks that are better than before, and return the best metric of each so far.

        Args:
            metric: by task, the higher the better.
        """
        for place, label in enumerate(self.schema.labels):
            if self._patience is not None and self.validations[place] >= self._patience:
                continue
            if metric[label] > self.best[place]:
                self.best[place], self.validations[place] = metric[label], 0
                self._keep(place)
            else:
                self.validations[place] += 1
        return dict(zip(self.schema.labels, self.best.tolist(), strict=True))

    def _keep(self, network: int) -> None:
        for place, (name, tensor) in enumerate(self.networks.state_dict().items()):
            if name.startswith(f"{network}."):
                getattr(self, f"kept{place}").copy_(tensor)

    def alone(self) -> list[FeedbackNetwork]:
        """Return the network of each label, as they are now."""
        return cast(list[FeedbackNetwork], list(self.networks))

    def kept(self) -> nn.ModuleList:
        """Return the networks of each label as they were at their best."""
        networks = deepcopy(self.networks)
        names = networks.state_dict()
        networks.load_state_dict({name: getattr(self, f"kept{place}") for place, name in enumerate(names)})
        return networks
