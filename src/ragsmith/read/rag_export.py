"""Retriever and reader written as a checkpoint of transformers' RAG classes, where that is exact."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.device import Machine
from ragsmith.read.dpr_encoders import BERT_FIELDS
from ragsmith.read.generative import PASSAGE, QUESTION, GenerativeSettings
from ragsmith.read.rag_format import ARCHITECTURES, GENERATOR_TOKENIZER, QUESTION_TOKENIZER, TOKEN_IDS, check_apart
from ragsmith.read.readers import reader_kind
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.encoder import load_sentence_transformer
from ragsmith.retrieve.models import ModelError, check_model_folder
from ragsmith.retrieve.routes import prompt_of, routes
from ragsmith.store.publish import check_target, publish_directory

if TYPE_CHECKING:
    import torch


def export_rag(encoder: Path, reader: Path, target: Path, n_docs: int = 5) -> Path:
    """Write retriever and reader as a checkpoint that transformers' RAG classes load.

    Exact are the vectors of questions, and losses and generations for the same pairs and scores. A retriever of
    transformers composes the same pairs when the column `text` of its data set holds what `passage_inputs` gives and
    `title` is empty, but for what `import_rag` says of it: questions as their tokenizer spells them, blanks, and pairs
    that are too long. Scores are its own: dot products, without our `prior_weight`. RAG-Sequence of transformers reads
    no generation_config: pass `num_beams`, `max_new_tokens` and, where there are such, `forced_bos_token_id` and what
    else `KEPT` names in generation_config.json to its `generate`.

    Args:
        encoder: sentence-transformers folder; of one with an encoder of passages of its own, that of questions is
            written.
        reader: folder of a `rag_token` or `rag_sequence` reader.
        target: new folder.
        n_docs: passages that transformers reads for each question.
    Returns:
        `target`.
    Raises:
        ModelError: the format cannot hold this retriever or this reader; all reasons are given.
        FileExistsError: something that was not published here lies at `target`.
        ValueError: `n_docs` is below 1.
    """
    if n_docs < 1:
        raise ValueError(f"n_docs is {n_docs}; it must be 1 or more.")
    kind = reader_kind(reader)
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{reader} holds a reader of kind {kind}, which transformers' RAG format cannot hold: it knows "
            f"{' and '.join(ARCHITECTURES)}."
        )
    check_apart({"target": target}, {"encoder": encoder, "reader": reader})
    check_target(target)
    check_model_folder(encoder)
    ours = Seq2SeqReader.load(reader, machine=Machine("cpu", "fp32"))
    bi_encoder = load_sentence_transformer(encoder)
    reasons = [
        *encoder_reasons(bi_encoder),
        *template_reasons(ours.settings.template),
        *decoding_reasons(ours.settings),
    ]
    if reasons:
        raise ModelError(f"transformers' RAG format cannot hold this exactly: {'; '.join(reasons)}.")

    def write(folder: Path) -> None:
        first: Any = routes(bi_encoder)["query"][0]
        model = rag_model(first.auto_model, ours, n_docs)
        model.save_pretrained(str(folder), safe_serialization=True)
        model.generation_config.save_pretrained(str(folder))  # that of RAG-Sequence too, which transformers leaves out
        first.tokenizer.save_pretrained(str(folder / QUESTION_TOKENIZER))
        ours.tokenizer.save_pretrained(str(folder / GENERATOR_TOKENIZER))

    publish_directory(target, write)
    return target


def encoder_reasons(model: Any) -> list[str]:
    """Why a bi-encoder is no DPR question encoder; empty when it is one."""
    from transformers import BertModel

    found = routes(model)["query"]
    backbone: Any = getattr(found[0], "auto_model", None)
    modules = [type(module).__name__ for module in found]
    if not isinstance(backbone, BertModel):
        return [f"the retriever is a {type(backbone).__name__}, and a question encoder must be a BERT"]
    reasons = []
    if modules[1:] != ["Pooling"]:
        reasons.append(
            f"after its transformer the retriever has {', '.join(modules[1:]) or 'nothing'}, and a question encoder "
            "has a pooling alone"
        )
    pooling: Any = next((module for module in found if type(module).__name__ == "Pooling"), None)
    if pooling is not None and pooling.pooling_mode != "cls":
        reasons.append(
            f"the retriever pools by {pooling.pooling_mode!r}, and a question encoder takes the state of the first "
            "token"
        )
    if prompt := prompt_of(model, "query"):
        reasons.append(f"the retriever puts {prompt!r} before a question, and transformers puts nothing")
    positions = getattr(backbone.config, "position_embedding_type", "absolute")
    if positions != "absolute":
        reasons.append(f"the retriever's positions are {positions!r}, and those of DPR are absolute")
    return reasons


def template_reasons(template: str) -> list[str]:
    """Why transformers' retriever cannot compose pairs by this template; empty when it can."""
    before, _, after = template.partition(PASSAGE)
    if not after.endswith(QUESTION) or QUESTION in before:
        return [
            f"the reader's template is {template!r}, and transformers writes the passage first and ends with the "
            f"question, such as '{PASSAGE} // {QUESTION}'"
        ]
    if "  " in template:
        return [f"the reader's template {template!r} holds two spaces in a row, which transformers makes one"]
    return []


def decoding_reasons(settings: GenerativeSettings) -> list[str]:
    """Why transformers would find other answers; empty when it would not."""
    reasons = []
    if settings.decoding.do_sample:
        reasons.append("the reader draws its answers (do_sample), and transformers would take the most probable ones")
    if settings.kind == "rag_sequence" and not settings.decoding.thorough:
        reasons.append("the reader decodes fast (thorough is false), and nothing in the format says so")
    return reasons


def rag_model(bert: Any, reader: Seq2SeqReader, n_docs: int) -> Any:
    """The RAG model of transformers with these weights."""
    import transformers
    from transformers import DPRConfig, DPRQuestionEncoder, GenerationConfig, RagConfig

    question_encoder = DPRQuestionEncoder(DPRConfig(**{name: getattr(bert.config, name) for name in BERT_FIELDS}))
    question_encoder.question_encoder.bert_model.load_state_dict(without_pooler(bert.state_dict()))
    settings = reader.settings
    before, _, after = settings.template.partition(PASSAGE)
    generator: Any = reader.model
    of_generator = generator.config.to_dict() | {"prefix": before or None}
    # RAG-Sequence of transformers asks each generator for it, and T5's configuration has none.
    of_generator.setdefault("bos_token_id", None)
    # BART's configuration would force an end mark upon answers that are as long as they may be, where ours does not.
    of_generator["forced_eos_token_id"] = generator.generation_config.forced_eos_token_id
    ids: dict[str, Any] = {name: getattr(generator.generation_config, name, None) for name in TOKEN_IDS}
    ids |= {"decoder_start_token_id": reader.start, "pad_token_id": reader.pad}
    config = RagConfig(
        question_encoder=question_encoder.config.to_dict(),
        generator=of_generator,
        n_docs=n_docs,
        max_combined_length=settings.max_tokens,
        retrieval_vector_size=bert.config.hidden_size,
        title_sep="",
        doc_sep=after.removesuffix(QUESTION),
        vocab_size=generator.config.vocab_size,
        **ids,
    )
    architecture = getattr(transformers, ARCHITECTURES[settings.kind])
    model = architecture(config=config, question_encoder=question_encoder, generator=generator)
    own = generator.generation_config.to_diff_dict()
    length = {"max_length": settings.max_answer_tokens + 1, "num_beams": settings.decoding.num_beams}
    model.generation_config = GenerationConfig(**(own | ids | length))
    return model


def without_pooler(weights: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Weights but those of BERT's pooler, which DPR has not."""
    return {name: value for name, value in weights.items() if not name.startswith("pooler.")}
