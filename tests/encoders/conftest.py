from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor

from counterpoint.encoders.tokens import Texts

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_SPECIAL = {f"{kind}_token_id": number for number, kind in enumerate(("pad", "bos", "eos", "cls", "sep"))}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**_SMALL),
    "roberta": lambda: transformers.RobertaConfig(**_SMALL),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_SMALL),
    "distilbert": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=100, dropout=0.0, attention_dropout=0.0
    ),
    "electra": lambda: transformers.ElectraConfig(**_SMALL, embedding_size=16),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **_SMALL, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"]
    ),
    "mpnet": lambda: transformers.MPNetConfig(**_SMALL),
    # Attends to four tokens either side in every second layer.
    "modernbert": lambda: transformers.ModernBertConfig(
        **_SMALL, **_SPECIAL, local_attention=8, global_attn_every_n_layers=2
    ),
}


@pytest.fixture
def make_model() -> Callable[[str], transformers.PreTrainedModel]:
    """A small model of an architecture, with random weights large enough for attention to matter."""

    def make(name: str) -> transformers.PreTrainedModel:
        torch.manual_seed(1)
        model = transformers.AutoModel.from_config(CONFIGS[name]())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
        return model.eval()

    return make


@pytest.fixture
def padded_states() -> Callable[..., list[Tensor]]:
    """Run a model the ordinary way: one padded matrix and an attention mask; return each title's states."""

    def run(model: transformers.PreTrainedModel, titles: Texts, extra: int = 0) -> list[Tensor]:
        padding = model.config.pad_token_id or 0
        width = max(titles.lengths) + extra
        tokens = torch.full((len(titles), width), padding)
        mask = torch.zeros_like(tokens)
        for row, title in enumerate(titles.tokens.split(titles.lengths)):
            tokens[row, : len(title)] = title
            mask[row, : len(title)] = 1
        states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return [row[:length] for row, length in zip(states, titles.lengths, strict=True)]

    return run


@pytest.fixture
def titles() -> Texts:
    """Texts of lengths with and without company."""
    lengths = (3, 4, 4, 4, 7, 12, 12, 20)
    generator = torch.Generator().manual_seed(0)
    return Texts(torch.randint(5, 99, (sum(lengths),), generator=generator), lengths)
