"""The whole recommender: one article encoder shared by the click task and the auxiliary tasks."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.encoders.pretrained import PretrainedEncoder, load_encoder
from counterpoint.news.batches import Batch
from counterpoint.news.models.readers import AttentiveReader
from counterpoint.news.models.scores import Dot, ScaledCosine
from counterpoint.news.recipe import NewsRecipe
from counterpoint.tasks.classification import Classification
from counterpoint.tasks.ranking import nce_loss
from counterpoint.tasks.tagging import Tagging


class Recommender(nn.Module):
    """News encoder, reader encoder, click predictor and auxiliary heads (paper 1, Fig. 2).

    Args:
        encoder: titles to vectors; its parameters are what the tasks share.
        reader: histories to vectors.
        score: the click predictor.
        category: head of the category task, if it is learned.
        entities: head of the entity task, if it is learned.
    """

    def __init__(
        self,
        encoder: PretrainedEncoder,
        reader: AttentiveReader,
        score: Dot | ScaledCosine,
        category: Classification | None = None,
        entities: Tagging | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.reader, self.score = encoder, reader, score
        self.category, self.entities = category, entities

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that all tasks share."""
        return self.encoder.parameters()

    def losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of every task on a batch; auxiliary tasks see each distinct title once."""
        # The auxiliary tasks read the first pack's own output: were it a slice of all titles', their backward
        # pass would walk through the other pack too, with zeros.
        packs = [self.encoder(pack) for pack in batch.packs]
        states, seen = packs[0]
        articles = self.score.articles(torch.cat([vectors for _, vectors in packs]))
        readers = self.score.readers(self.reader(articles, batch.history)[0])
        candidates = nn.functional.embedding(batch.candidates, articles)
        losses = {"click": nce_loss(torch.einsum("rs,rcs->rc", readers, candidates))}
        if self.category is not None:
            losses["category"] = self.category.loss(seen, batch.categories[: len(seen)])
        if self.entities is not None:
            losses["entities"] = self.entities.loss(states, batch.tags[: len(states)], len(seen))
        return losses


def build(
    recipe: NewsRecipe, labels: Mapping[str, Sequence[str]], *, encoder: PretrainedEncoder
) -> Recommender:
    """Return a recommender for a recipe; all but the encoder is drawn from torch's generator.

    Args:
        recipe: the recipe.
        labels: names of the categories and entity types of the store.
        encoder: the article encoder.
    """
    encoder.precision = recipe.training.precision
    types = 1 if recipe.entities.scheme == "bio" else max(len(labels["entity_types"]), 1)
    classes = max(len(labels[recipe.category.field]), 1)
    return Recommender(
        encoder,
        AttentiveReader(encoder.size, recipe.model.query_size),
        _SCORES[recipe.model.score](),
        Classification(encoder.size, classes) if "category" in recipe.tasks else None,
        Tagging(encoder.size, types, recipe.entities.average) if "entities" in recipe.tasks else None,
    )


def pretrained_encoder(recipe: NewsRecipe) -> PretrainedEncoder:
    """Return the encoder that a recipe starts from."""
    section = recipe.encoder
    return load_encoder(
        section.name,
        revision=section.revision,
        pooling=section.pooling,
        dropout=section.dropout,
        random_weights=section.random_weights,
    )


def untrained(recipe: NewsRecipe) -> Recommender:
    """Return the recommender of a recipe before any training, without auxiliary tasks.

    An encoder of random weights is the one that training starts from; torch's generator is left as it was.
    """
    alone = recipe.model_copy(update={"tasks": ("click",)})
    labels: dict[str, list[str]] = {"category": [], "subcategory": [], "entity_types": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return build(alone, labels, encoder=pretrained_encoder(recipe))


_SCORES: dict[str, type[Dot] | type[ScaledCosine]] = {"dot": Dot, "scaled_cosine": ScaledCosine}
