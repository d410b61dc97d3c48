"""Encoders of transformers' RAG and DPR classes as sentence-transformers folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.models import ModelError, read_weights
from ragsmith.retrieve.route_files import read_json
from ragsmith.retrieve.route_modules import RouteModules
from ragsmith.retrieve.routes import prompt_of, routes, twin

if TYPE_CHECKING:
    import torch

# What BERT and DPR name alike in their configurations.
BERT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


def save_question_encoder(question_encoder: Any, tokenizer: Any, folder: Path) -> None:
    """A DPR or BERT question encoder as a sentence-transformers folder whose vector is the first token's state."""
    from sentence_transformers import SentenceTransformer

    modules = first_token_modules(bert_of(question_encoder), tokenizer, folder)
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)


def save_two_encoders(question_encoder: Any, tokenizer: Any, passage_encoder: Path, folder: Path) -> None:
    """The same as the route of queries, beside one of documents.

    Raises:
        ModelError: see `import_rag`.
    """
    questions = first_token_modules(bert_of(question_encoder), tokenizer, folder)
    if (passage_encoder / "modules.json").is_file():
        found = load_sentence_transformer(passage_encoder)
        passages, prompt = routes(found)["passage"], prompt_of(found, "passage")
    else:
        passages, prompt = first_token_modules(*context_encoder(passage_encoder), folder), ""
    sizes = [RouteModules(modules, Machine("cpu", "fp32")).dimension for modules in (questions, passages)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"The question encoder gives vectors of {sizes[0]} numbers, and {passage_encoder} of {sizes[1]}: they "
            "cannot be compared. Give the encoder of passages that the checkpoint was trained with."
        )
    twin(questions, passages, {"passage": prompt}).save(str(folder), create_model_card=False)


def context_encoder(folder: Path) -> tuple[Any, Any]:
    """The BERT and the tokenizer of a DPR context encoder.

    Raises:
        ModelError: it is none, projects its vectors, lacks weights, or has no fast tokenizer.
    """
    from transformers import AutoTokenizer, DPRContextEncoder

    config = read_json(folder / "config.json")
    kind, named = config.get("model_type"), config.get("architectures") or ["DPRContextEncoder"]
    if kind != "dpr" or "DPRContextEncoder" not in named:
        raise ModelError(
            f"{folder} is a {kind} model ({', '.join(named)}), which is no encoder of passages: give a "
            "DPRContextEncoder of transformers, or a sentence-transformers folder."
        )
    if config.get("projection_dim"):
        raise ModelError(
            f"The encoder in {folder} projects its vectors to {config['projection_dim']} numbers; only one without "
            "projection can be taken over."
        )
    model, missing = read_weights(DPRContextEncoder, folder)
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} weights, such as {missing[0]}.")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} holds no fast tokenizer (tokenizer.json), which tells where a text may be cut.")
    return model.ctx_encoder.bert_model, tokenizer


def bert_of(question_encoder: Any) -> Any:
    """The BERT in a DPR question encoder, or what is one itself."""
    inner = getattr(question_encoder, "question_encoder", None)
    return question_encoder if inner is None else inner.bert_model


def first_token_modules(bert: Any, tokenizer: Any, folder: Path) -> "list[torch.nn.Module]":
    """The modules of sentence-transformers that give the state of a BERT's first token.

    Args:
        bert: a transformers `BertModel`.
        tokenizer: its own.
        folder: in which something is written and removed again.
    """
    import shutil

    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the pooler, which DPR lacks and nothing here uses
        ours = BertModel(BertConfig(**{name: getattr(bert.config, name) for name in BERT_FIELDS}))
    ours.load_state_dict(bert.state_dict(), strict=False)
    backbone = folder / "backbone"
    ours.save_pretrained(str(backbone), safe_serialization=True)
    tokenizer.save_pretrained(str(backbone))
    transformer = Transformer(str(backbone), max_seq_length=bert.config.max_position_embeddings)
    pooling = Pooling(bert.config.hidden_size, pooling_mode="cls")
    shutil.rmtree(backbone)
    return [transformer, pooling]
