"""Language models of a few thousand random weights, with tokenizers trained on a few lines, as folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from ragsmith.compute.device import Machine
from ragsmith.read.causal import CausalReader
from ragsmith.read.generative import GenerativeSettings
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.encoder import quiet_transformers
from ragsmith.retrieve.models import resolve_model

LINES = [
    "How do I delete a directory? shutil.rmtree deletes an entire directory tree.",
    "question: What is the square root of four? context: math.sqrt(x) gives the square root of x. answer: two",
    "Ünïcödé – naïve “quotes”, 日本語 and 🙂 emoji; the capital of France is Paris // Paris / France",
]


def byte_level(specials: list[str], template: str | None, **names: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE, as BART's and GPT-2's are; `specials` get the first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    if template:
        pairs = [(token, tokenizer.token_to_id(token)) for token in specials[:3]]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def unigram() -> PreTrainedTokenizerFast:
    """A sentence-piece model, as T5's is: NFKC, a mark before each word, </s> at the end."""
    words = sorted({f"▁{word}" for line in LINES for word in line.split()})
    letters = sorted(
        {letter for line in LINES for letter in line} - {" "} | set("▁abcdefghijklmnopqrstuvwxyz0123456789")
    )
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -3.0) for word in words if len(word) > 2] + [(letter, -5.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


BART_NAMES = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def spread(model: Any, by: float = 8.0) -> None:
    """Untrained weights are so small that all answers are alike: make answers differ, and passages matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                cross = any(part in name for part in ("encoder_attn", "EncDecAttention", "crossattention"))
                parameter.mul_(2 * by if cross else by)


def bart(folder: Path) -> None:
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", **BART_NAMES)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
    )
    model = BartForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_bos_token_id=0
    )
    save(model, tokenizer, folder)


def t5(folder: Path) -> None:
    tokenizer = unigram()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    save(T5ForConditionalGeneration(config), tokenizer, folder, by=1.5)


def bert_to_bert(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("package:all-MiniLM-L6-v2"))
    small: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    }
    encoder = BertModel(BertConfig(**small))
    decoder = BertLMHeadModel(BertConfig(**small, is_decoder=True, add_cross_attention=True))
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    ids = {
        "decoder_start_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config = GenerationConfig(**ids)
    save(model, tokenizer, folder)


def gpt2(folder: Path) -> None:
    tokenizer = byte_level(["<|endoftext|>"], None, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256, bos_token_id=0, eos_token_id=0
    )
    save(GPT2LMHeadModel(config), tokenizer, folder)


CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def llama_chat(folder: Path) -> None:
    tokenizer = byte_level(["<pad>", "<|start|>", "<|end|>"], None, eos_token="<|end|>", pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=2,
        pad_token_id=0,
    )
    save(LlamaForCausalLM(config), tokenizer, folder)


def save(model: Any, tokenizer: Any, folder: Path, by: float = 8.0) -> None:
    spread(model, by)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


GENERATORS: dict[str, Callable[[Path], None]] = {
    "bart": bart,
    "t5": t5,
    "bert_to_bert": bert_to_bert,
    "gpt2": gpt2,
    "llama_chat": llama_chat,
}


def generator_folder(name: str, seed: int, folder: Path) -> Path:
    """A folder with the named model, the same for the same seed."""
    target = folder / f"{name}-{seed}"
    if not (target / "config.json").is_file():
        quiet_transformers()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            GENERATORS[name](target)
    return target


def saved_reader(kind: Any, folder: Path, name: str = "") -> Path:
    """A saved reader of the kind, on T5 or GPT-2 unless another model is named."""
    settings = GenerativeSettings(kind=kind, max_tokens=96, max_answer_tokens=6, prior_weight=2.0)
    causal = kind == "causal"
    model = generator_folder(name or ("gpt2" if causal else "t5"), 0, folder)
    reader = (CausalReader if causal else Seq2SeqReader).load(model, settings, Machine("cpu", "fp32"))
    target = folder / f"reader-{kind}"
    reader.save(target)
    return target
