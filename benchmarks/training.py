"""One training step of three tasks, against the naive step and against a plain summed loss."""

import torch
from torch import Tensor, nn

from benchmarks.measure import Ratio, interleaved
from benchmarks.synthetic import store
from counterpoint import api, balance
from counterpoint.encoders.loading import locate
from counterpoint.news.batches import Batch, TrainingBatches
from counterpoint.news.models.building import fresh
from counterpoint.news.models.readers import AttentiveReader
from counterpoint.news.models.recommender import Recommender, nce_loss
from counterpoint.news.recipe import NewsRecipe
from counterpoint.news.tasks.classification import Classification
from counterpoint.news.tasks.tagging import Tagging

SLOTS, PADDED = 55, 20


class NaiveStep:
    """Every title of every impression encoded anew, empty slots too, all padded to 20 word pieces."""

    def __init__(self, model: Recommender) -> None:
        from transformers import AutoModel

        self.encoder = AutoModel.from_pretrained(locate("minilm")).train()
        self.model = model

    def __call__(self, batch: Batch) -> None:
        titles = batch.packs[0].texts["title"].texts
        rows = nn.utils.rnn.pad_sequence(titles.tokens.split(titles.lengths), batch_first=True)
        rows = nn.functional.pad(rows, (0, PADDED - rows.shape[1]))
        tags = nn.utils.rnn.pad_sequence(
            batch.labels["entities"].split(titles.lengths), batch_first=True, padding_value=-100
        )
        tags = nn.functional.pad(tags, (0, PADDED - tags.shape[1]), value=-100)
        history = nn.functional.pad(batch.history, (0, SLOTS - 5 - batch.history.shape[1]), value=-1)
        slots = torch.cat((history, batch.candidates), dim=1)
        empty = slots < 0
        place = slots.clamp(min=0).flatten()
        tokens = rows[place].masked_fill(empty.flatten()[:, None], 0)
        mask = (tokens > 0).long()
        mask[:, 0] = 1
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors = self.model.score.articles(pooled).view(*slots.shape, -1)
        reader, heads = self.model.reader, self.model.heads
        assert isinstance(reader, AttentiveReader)
        weights = reader.attention.weights(reader.attention.logits(vectors[:, :-5]), ~empty[:, :-5])
        readers = self.model.score.readers(torch.einsum("rp,rps->rs", weights, vectors[:, :-5]))
        click = nce_loss(torch.einsum("rs,rcs->rc", readers, vectors[:, -5:]))
        categories = batch.labels["category"][place].masked_fill(empty.flatten(), -100)
        labels = tags[place].masked_fill(empty.flatten()[:, None], -100)
        assert isinstance(heads["category"], Classification)
        assert isinstance(heads["entities"], Tagging)
        loss: Tensor = click + heads["category"].loss(pooled, categories)
        loss = loss + heads["entities"].loss(states.flatten(0, 1), labels.flatten(), len(tokens))
        loss.backward()
        _clear(self.encoder)
        _clear(self.model)


def run() -> list[Ratio]:
    """Return the ratios of a step of 16 clicks with histories up to 50, forward and backward."""
    recipe = api.read_recipe("mtrec")
    assert isinstance(recipe, NewsRecipe)
    data = store(20_000, 2_000)
    batch = TrainingBatches(data, recipe).batch(0, 0)
    part = TrainingBatches(data, recipe.model_copy(update={"auxiliary_share": 0.25})).batch(0, 0)
    model = fresh(recipe, data).train()
    naive = NaiveStep(model)
    summed, mtrec, pcgrad = balance.make("equal"), balance.make("mtrec"), balance.make("pcgrad")

    def step(balancer: balance.Balancer, of: Batch) -> None:
        balancer.backward(model.losses(of), shared=model.shared_parameters(), target="click")
        _clear(model)

    seconds = interleaved(
        {
            "naive": lambda: naive(batch),
            "summed": lambda: step(summed, batch),
            "mtrec": lambda: step(mtrec, batch),
            "pcgrad": lambda: step(pcgrad, batch),
            "quarter": lambda: step(mtrec, part),
        },
        rounds=3,
    )
    plain = "a step of the summed losses"
    return [
        Ratio(
            "training step, three tasks",
            "every slot padded, float32",
            seconds["naive"] / seconds["summed"],
            8,
        ),
        Ratio(
            "cost of an exact MTRec step", plain, seconds["mtrec"] / seconds["summed"], 1.85, at_least=False
        ),
        Ratio(
            "the same, auxiliaries on 1/4 of the titles",
            plain,
            seconds["quarter"] / seconds["summed"],
            1.2,
            at_least=False,
        ),
        Ratio("cost of a PCGrad step", plain, seconds["pcgrad"] / seconds["summed"], 2.8, at_least=False),
    ]


def _clear(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None
