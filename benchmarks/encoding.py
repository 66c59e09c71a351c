"""Encoding articles, against the Hugging Face model in float32 with padding."""

import numpy as np
import torch

from benchmarks.measure import Ratio, interleaved
from benchmarks.synthetic import store
from counterpoint import api
from counterpoint.encoders.loading import locate
from counterpoint.news.baselines import encode_contents
from counterpoint.news.features import FeatureReader
from counterpoint.news.models.texts import untrained_titles
from counterpoint.news.recipe import NewsRecipe

ARTICLES = 1_024


def run() -> list[Ratio]:
    """Return the ratio; fails where the scores of the two disagree in rank."""
    from transformers import AutoModel

    recipe = api.read_recipe("bert")
    assert isinstance(recipe, NewsRecipe)
    data = store(20_000, 2_000)
    titles, features = untrained_titles(recipe), FeatureReader(data, recipe)
    plain = AutoModel.from_pretrained(locate("minilm")).eval()
    articles = np.arange(1, ARTICLES + 1)
    padded, mask = _padded(data, articles)

    def baseline() -> torch.Tensor:
        vectors = []
        with torch.inference_mode():
            for start in range(0, ARTICLES, 128):
                block = mask[start : start + 128]
                states = plain(input_ids=padded[start : start + 128], attention_mask=block).last_hidden_state
                vectors.append((states * block[..., None]).sum(1) / block.sum(1, keepdim=True))
        return torch.cat(vectors)

    seconds = interleaved(
        {"ours": lambda: encode_contents(titles, features, articles), "padded": baseline}, rounds=3
    )
    contents = encode_contents(titles, features, articles)
    ours = torch.nn.functional.normalize(contents.vectors[torch.from_numpy(contents.place[articles])], dim=-1)
    theirs = torch.nn.functional.normalize(baseline(), dim=-1)
    ranks = [(vectors[:32] @ vectors.T).flatten().argsort().argsort().double() for vectors in (ours, theirs)]
    correlation = float(torch.corrcoef(torch.stack(ranks))[0, 1])
    if correlation < 0.999:
        raise AssertionError(f"rank correlation of the scores is {correlation}, below 0.999")
    return [
        Ratio(
            "encoding articles",
            "Hugging Face, float32, padded to 20",
            seconds["padded"] / seconds["ours"],
            3.8,
        )
    ]


def _padded(data: object, articles: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, _, lengths = data.titles(articles)  # type: ignore[attr-defined]
    rows = torch.zeros(len(articles), 20, dtype=torch.long)
    mask = torch.arange(20)[None] < torch.from_numpy(lengths)[:, None]
    rows[mask] = torch.from_numpy(tokens.astype(np.int64))
    return rows, mask.long()
