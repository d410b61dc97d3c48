"""Checkpoints of transformers' RAG classes (`rag_format`) read into our folders.

Nothing is fetched, and no weights are read from formats that can run code.
"""

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragsmith.compute.device import Machine
from ragsmith.read.decoding import Decoding
from ragsmith.read.dpr_encoders import save_question_encoder, save_two_encoders
from ragsmith.read.generative import KEPT, PASSAGE, QUESTION, GenerativeKind, GenerativeSettings
from ragsmith.read.language_model import check_room
from ragsmith.read.rag_format import ARCHITECTURES, GENERATOR_TOKENIZER, QUESTION_TOKENIZER, TOKEN_IDS, check_apart
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import ModelError, check_model_folder, read_weights
from ragsmith.store.publish import check_target, publish_directory

logger = logging.getLogger(__name__)

USUAL_LENGTH = 20  # of an answer with its start token, where a checkpoint's generation_config does not say


@dataclass(frozen=True)
class ImportedRag:
    """What an import leaves.

    Attributes:
        reader: folder for `load_reader`.
        encoder: sentence-transformers folder of the question encoder, and of that of passages where one was given.
        title_sep: what the generator is used to between a passage's title and its text; for `composed_passage`.
    """

    reader: Path
    encoder: Path
    title_sep: str


def import_rag(
    checkpoint: Path,
    reader: Path,
    encoder: Path,
    kind: GenerativeKind | None = None,
    passage_encoder: Path | None = None,
) -> ImportedRag:
    """Take a RAG checkpoint of transformers apart into a reader and a question encoder.

    The reader gives the checkpoint's losses and generations for the same passages and scores: `prior_weight` is 1, and
    a pair is composed as transformers composes it when its passages are texts of `composed_passage`, the question is
    spelt as the question encoder's tokenizer spells it (that of DPR in lower case; transformers' retriever gives the
    generator no other), and none of them begins or ends with a blank or holds two in a row (transformers makes them
    one in the whole pair). A pair that is too long loses the end of its passage; transformers cuts the end of the
    pair, which is the question. Settings of generation that are not among `KEPT`, such as `min_length`, are not taken
    over; the log names them.

    What is not reproduced: DPR compares questions with passages by the plain dot product, and here they are compared
    by cosine. Its second encoder, of passages, is not in the checkpoint: without `passage_encoder` both are encoded
    by one. Take the encoder as a start for tuning, tune `prior_weight`, or give the reader passages and scores from
    elsewhere.

    Args:
        checkpoint: what `save_pretrained` of transformers' RAG classes and of its `RagTokenizer` wrote.
        reader: new folder.
        encoder: new folder; vectors are the state of the first token.
        kind: `rag_token` or `rag_sequence`; None takes what the checkpoint says of itself.
        passage_encoder: what passages are encoded with: a DPR context encoder as transformers saves it, such as
            `facebook/dpr-ctx_encoder-multiset-base` with safetensors weights, or a sentence-transformers folder; None:
            the question encoder.
    Raises:
        ModelError: it is no RAG checkpoint, has no safetensors weights, lacks some, or has parts that cannot be
            mapped, or the encoder of passages is of neither kind or has vectors of another length; the message says
            which. Also: `reader` and `encoder` are one folder, or one lies in the other.
        FileExistsError: something that was not published here lies where a folder should go.
    """
    import transformers

    config = rag_config(checkpoint)
    check_model_folder(checkpoint)
    if passage_encoder is not None:
        check_model_folder(passage_encoder)
    kind = kind or stated_kind(checkpoint, config)
    if kind not in ARCHITECTURES:
        raise ModelError(f"A RAG checkpoint cannot be read as {kind!r}. Choose one of: {', '.join(ARCHITECTURES)}.")
    inputs = {"checkpoint": checkpoint} | ({} if passage_encoder is None else {"passage_encoder": passage_encoder})
    check_apart({"reader": reader, "encoder": encoder}, inputs)
    for target in (reader, encoder):
        check_target(target)
    quiet_transformers()
    model, missing = read_weights(getattr(transformers, ARCHITECTURES[kind]), checkpoint)
    if missing:
        raise ModelError(f"{checkpoint} lacks {len(missing)} weights, such as {missing[0]}.")
    asked, written = (
        rag_tokenizer(checkpoint, name, part)
        for name, part in (
            (QUESTION_TOKENIZER, model.config.question_encoder),
            (GENERATOR_TOKENIZER, model.config.generator),
        )
    )
    own = model.generation_config if kind == "rag_token" else model.generator.generation_config
    told = [own, *told_apart(checkpoint)]
    if ignored := ", ".join(dict.fromkeys(said for one in told for said in not_taken_over(one))):
        logger.warning("%s: not taken over, so that answers may differ: %s", checkpoint, ignored)
    generation = copy.deepcopy(own)
    for name in KEPT:
        asked_first = [own, model.config, model.config.generator] if name in TOKEN_IDS else told
        setattr(generation, name, first_said(asked_first, name))
    settings = GenerativeSettings(
        kind=kind,
        max_tokens=model.config.max_combined_length,
        max_answer_tokens=max(1, first_said(told, "max_length", USUAL_LENGTH) - 1),
        prior_weight=1.0,
        template=f"{prefix_of(model.generator.config)}{PASSAGE}{model.config.doc_sep}{QUESTION}",
        decoding=Decoding(num_beams=first_said(told, "num_beams", 1)),
    )
    check_room(checkpoint, model.generator.config, settings.max_tokens, settings.max_answer_tokens)
    model.generator.generation_config = generation
    ours = Seq2SeqReader(model.generator, written, settings, Machine("cpu", "fp32"))
    questions = model.question_encoder

    def write_encoder(folder: Path) -> None:
        if passage_encoder is None:
            save_question_encoder(questions, asked, folder)
        else:
            save_two_encoders(questions, asked, passage_encoder, folder)

    publish_directory(encoder, write_encoder)  # first: an encoder of passages may still be refused
    publish_directory(reader, ours.save)
    return ImportedRag(reader, encoder, model.config.title_sep)


def rag_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration of a RAG checkpoint, checked as far as it decides whether the checkpoint can be mapped."""
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        kind = config.get("model_type")
        parts = [str(config[name]["model_type"]) for name in ("question_encoder", "generator") if kind == "rag"]
        texts = {
            "doc_sep": config.get("doc_sep", ""),
            "title_sep": config.get("title_sep", ""),
            "the generator's prefix": (config.get("generator") or {}).get("prefix") or "",
        }
        wrong = [f"{name} is {value!r} and no text" for name, value in texts.items() if not isinstance(value, str)]
        if not isinstance(config.get("architectures") or [], list):
            wrong.append("architectures is no list")
        if wrong and kind == "rag":
            raise ValueError("; ".join(wrong))
    except FileNotFoundError as error:
        raise ModelError(f"{checkpoint} holds no model: config.json is not there.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged or no RAG configuration: {error!r}") from error
    if kind != "rag":
        raise ModelError(f"{checkpoint} is a model of type {kind!r}, and no RAG checkpoint.")
    if parts[0] not in ("dpr", "bert"):
        raise ModelError(
            f"The question encoder of {checkpoint} is of type {parts[0]!r}; only DPR and BERT can be taken over, for "
            "only of these it is known that the state of the first token is the vector."
        )
    if config["question_encoder"].get("projection_dim"):
        raise ModelError(
            f"The question encoder of {checkpoint} projects its vectors to "
            f"{config['question_encoder']['projection_dim']} numbers; only one without projection can be taken over."
        )
    return dict(config)


def stated_kind(checkpoint: Path, config: dict[str, Any]) -> GenerativeKind:
    """What a checkpoint says of itself."""
    named = config.get("architectures") or []
    for kind, architecture in ARCHITECTURES.items():
        if architecture in named:
            return kind
    raise ModelError(
        f"{checkpoint} does not say how it marginalises (architectures: {named}). Give the kind: rag_token or "
        "rag_sequence."
    )


def rag_tokenizer(checkpoint: Path, name: str, config: Any) -> Any:
    """One of the two tokenizers of a checkpoint."""
    from transformers import AutoTokenizer

    folder = checkpoint / name
    if not folder.is_dir():
        raise ModelError(
            f"{checkpoint} has no folder {name}: save its tokenizers there with transformers' RagTokenizer."
        )
    tokenizer = AutoTokenizer.from_pretrained(
        str(folder), config=config, local_files_only=True, trust_remote_code=False
    )
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} holds no fast tokenizer (tokenizer.json), which tells where a text may be cut.")
    return tokenizer


def told_apart(checkpoint: Path) -> list[Any]:
    """What the checkpoint's generation_config.json says, if it is there.

    RAG-Sequence of transformers does not read it, and is told everything when it generates: `export_rag` leaves there
    what its generator shall do, and that of others is taken for what they meant.
    """
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    if not (checkpoint / GENERATION_CONFIG_NAME).is_file():
        return []
    try:
        return [GenerationConfig.from_pretrained(str(checkpoint), local_files_only=True)]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{checkpoint / GENERATION_CONFIG_NAME} is damaged: {error!r}") from error


def first_said(configs: Sequence[Any], name: str, usual: Any = None) -> Any:
    """What the first of the configurations that says something says; `usual` where none does."""
    return next((value for one in configs if (value := getattr(one, name, None)) is not None), usual)


def prefix_of(config: Any) -> str:
    """What transformers' retriever puts before each pair."""
    return str(getattr(config, "prefix", None) or "")


def not_taken_over(generation: Any) -> list[str]:
    """Settings of a checkpoint's generation that answers depend on, and that a reader of ours has no place for."""
    known = {*KEPT, "max_length", "num_beams", "transformers_version", "_from_model_config", "use_cache"}
    if not generation.do_sample:
        known |= {"temperature", "top_k", "top_p", "min_p", "typical_p"}
    said = {name: value for name, value in generation.to_diff_dict().items() if name not in known and value}
    return [f"{name} {value!r}" for name, value in sorted(said.items())]
