"""Small untrained models of each kind, with a tokenizer whose special tokens lie as RoBERTa's do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

HIDDEN, POSITIONS = 32, 96
WORDS = "how much space is left on the disk where a directory holds files and links of other users today".split()
Make = Callable[..., SentenceTransformer]


def tokenizer(folder: Path, **settings: Any) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: number for number, word in enumerate([*special, ":", "query", "passage", *WORDS])}
    fast = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    fast.pre_tokenizer = Whitespace()
    fast.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    names |= {"cls_token": "<s>", "sep_token": "</s>"}
    made = PreTrainedTokenizerFast(tokenizer_object=fast, **names, **{"model_max_length": 80, **settings})
    made.save_pretrained(folder)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A random model: `make(kind, after=modules behind the transformer, dropout=share, …)`."""

    def model(
        kind: str,
        after: list[torch.nn.Module] | None = None,
        dropout: float = 0.0,
        settings: Any = None,
        **config: Any,
    ) -> SentenceTransformer:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        tokenizer(folder, **(settings or {}))
        names = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout, "intermediate_size": 48}
        names |= {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": HIDDEN}
        names["max_position_embeddings"] = POSITIONS
        if kind == "modernbert":
            names |= {"local_attention": 16, "global_attn_every_n_layers": 2, "attention_dropout": dropout}
            names |= {"embedding_dropout": dropout, "mlp_dropout": dropout, "cls_token_id": 0, "sep_token_id": 2}
        if kind == "distilbert":
            names = {"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dropout": dropout}
        shared = {"vocab_size": 40, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.3}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            made = AutoModel.from_config(
                CONFIG_MAPPING[kind](**{**shared, **names, **config}), attn_implementation="eager"
            )
            for name, parameter in made.named_parameters():
                if name.endswith("bias") or "norm" in name.lower():  # as they are made, they are zeros and ones
                    parameter.data.add_(torch.randn_like(parameter) * 0.1)
            made.save_pretrained(folder)
        transformer = Transformer(str(folder), model_kwargs={"attn_implementation": "eager"})
        return SentenceTransformer(
            modules=[transformer, *(after or [Pooling(HIDDEN, "mean"), Normalize()])], device="cpu"
        )

    return model
