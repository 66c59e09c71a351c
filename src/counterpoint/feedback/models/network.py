"""The network that predicts all labels of a row."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from counterpoint.balance.graph import common_leaves
from counterpoint.errors import CounterpointError
from counterpoint.feedback.batches import FeedbackBatch
from counterpoint.feedback.data.schema import Column, Schema
from counterpoint.feedback.models.chains import Apart
from counterpoint.feedback.models.experts import factorization_machine
from counterpoint.feedback.models.extraction import Extraction
from counterpoint.feedback.models.fields import Fields


class FeedbackNetwork(nn.Module):
    """Fields, levels of experts, a tower for each task, and what towers pass on.

        x = [v_1 ; … ; v_F ; w_1 … w_F]      logit_k = head_k(chain(tower_k(mixture_k(x))))

    Args:
        schema: the columns and the labels.
        fields: their vectors; where these are longer than ``width``, first-order weights stand last.
        width: numbers in a field's vector.
        extraction: the experts.
        beside: whether every task's mixture has the factorization machine of all fields beside it.
        towers: one for each label.
        heads: one for each label: from what its tower found to its logit.
        chain: what tasks pass on.
        all_shared: whether all parameters count as shared.

    Attributes:
        schema: as given.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        fields: Fields,
        width: int,
        extraction: Extraction,
        beside: bool,
        towers: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        chain: Apart,
        all_shared: bool,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.fields, self.width, self.beside = fields, width, beside
        self.extraction, self.chain = extraction, chain
        # By number: names of labels come from logs, and not all can name a module.
        self.towers, self.heads = nn.ModuleList(towers), nn.ModuleList(heads)
        self._shared = tuple(self.parameters() if all_shared else self._reached_by_several())

    def losses(self, batch: FeedbackBatch) -> dict[str, Float[Tensor, ""]]:
        """Return each task's cross-entropy, the mean over the rows, and what its chain adds.

        Raises:
            CounterpointError: an id lies beyond its vocabulary.
        """
        logits = self._logits(self._vectors(batch))
        losses = {
            label: binary_cross_entropy_with_logits(of_label, wanted)
            for label, of_label, wanted in zip(
                self.schema.labels, logits, batch.labels.unbind(1), strict=True
            )
        }
        for task, penalty in self.chain.penalties(logits).items():
            losses[self.schema.labels[task]] = losses[self.schema.labels[task]] + penalty
        return losses

    def logits(self, batch: FeedbackBatch) -> Float[Tensor, "rows labels"]:
        """Return the logit of each label.

        Raises:
            CounterpointError: an id lies beyond its vocabulary.
        """
        return torch.stack(self._logits(self._vectors(batch)), dim=1)

    def probabilities(self, batch: FeedbackBatch) -> Float[Tensor, "rows labels"]:
        """Return the probability of each label.

        Raises:
            CounterpointError: an id lies beyond its vocabulary.
        """
        return self.logits(batch).sigmoid()

    def probabilities_of(self, vectors: Float[Tensor, "rows fields width"]) -> Float[Tensor, "rows labels"]:
        """Return the probability of each label, given the vectors of the fields."""
        return torch.stack(self._logits(vectors), dim=1).sigmoid()

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the losses of at least two tasks reach, or all of them.

        With one level of experts these are the tables and the shared experts. Below another level own experts
        and gates that feed its shared experts are among them, and in a chain all that a task passes on.
        """
        yield from self._shared

    def _logits(self, vectors: Float[Tensor, "rows fields width"]) -> list[Float[Tensor, " rows"]]:
        """Return the logit of each label, apart: a pass from one task's loss goes through its tower alone."""
        flat, first_order = vectors[:, :, : self.width].flatten(1), vectors[:, :, self.width :].flatten(1)
        mixtures = self.extraction(torch.cat((flat, first_order), dim=1))
        if self.beside:
            machine = factorization_machine(vectors, vectors.new_ones(1, vectors.shape[1]))
            mixtures = [torch.cat((mixture, machine.T), dim=1) for mixture in mixtures]
        found = [tower(mixture) for tower, mixture in zip(self.towers, mixtures, strict=True)]
        states = self.chain.states(found)
        return self.chain.logits([head(state)[:, 0] for head, state in zip(self.heads, states, strict=True)])

    def _vectors(self, batch: FeedbackBatch) -> Float[Tensor, "rows fields width"]:
        """Return the vectors of a batch whose ids have all been looked at."""
        _refuse_beyond(self.schema.ids, batch.ids.unbind(1))
        _refuse_beyond(self.schema.lists, [values for values, _ in batch.lists])
        vectors: Float[Tensor, "rows fields width"] = self.fields(batch.ids, batch.numbers, batch.lists)
        return vectors

    def _reached_by_several(self) -> list[nn.Parameter]:
        """Return the parameters that several tasks' losses reach; with one task alone, all."""
        if len(self.schema.labels) < 2:
            return list(self.parameters())
        rows, schema = 2, self.schema
        empty = torch.zeros(0, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64)
        batch = FeedbackBatch(
            torch.zeros(rows, len(schema.ids), dtype=torch.int64),
            torch.zeros(rows, len(schema.numbers)),
            (empty,) * len(schema.lists),
            torch.zeros(rows, len(schema.labels)),
        )
        self.eval()
        common = set(map(id, common_leaves(self.losses(batch).values())))
        self.train()
        return [parameter for parameter in self.parameters() if id(parameter) in common]


def _refuse_beyond(columns: Sequence[Column], ids: Sequence[Int[Tensor, " values"]]) -> None:
    """Raise where an id has no row of its own: in a common table it would be another column's."""
    sizes = [column.size for column in columns]
    beyond = [(rows < 0) | (rows >= size) for rows, size in zip(ids, sizes, strict=True)]
    # Once for all columns: a device has to be waited for.
    if not beyond or not bool(torch.cat(beyond).any()):
        return
    place = next(place for place, each in enumerate(beyond) if bool(each.any()))
    wrong = int(ids[place][beyond[place]][0])
    raise CounterpointError(
        f"The column {columns[place].name!r} has the id {wrong}, which lies beyond its vocabulary of "
        f"{sizes[place]} rows; use the store that the model was made for."
    )
