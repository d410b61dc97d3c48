"""Folders with two encoders: what is checked in them, and which index is theirs."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from twin_models import twin_folder

from ragsmith.compute.device import Machine
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import ModelError, check_model_folder, model_hash
from ragsmith.retrieve.route_files import ROUTER, mark_passage_model, passage_model, route_folders
from ragsmith.retrieve.routes import KINDS, Kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return twin_folder(tmp_path / "twin", prompts={"query": "query: ", "passage": "text: "})


def change_weights(folder: Path, kind: Kind) -> None:
    file = next(route_folders(folder)[kind][0].glob("*.safetensors"))
    weights = load_file(file)
    first = next(iter(weights))
    save_file({**weights, first: weights[first] + 1}, file, {"format": "pt"})


def change_json(path: Path, change) -> None:
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")


def test_whole_folder_is_taken_and_its_routes_are_found(folder: Path) -> None:
    check_model_folder(folder)
    found = route_folders(folder)
    assert found["query"][0].name == "query_0_Transformer"
    assert found["passage"][0].name == "document_0_Transformer"
    assert all(path.is_dir() for kind in KINDS for path in found[kind])


def test_model_with_one_encoder_has_no_routes(tiny_model: Path) -> None:
    assert route_folders(tiny_model) == {}


@pytest.mark.parametrize(("kind", "name"), [("query", "query_0_Transformer"), ("passage", "document_0_Transformer")])
def test_route_that_is_not_whole_is_refused_by_name(kind: Kind, name: str, folder: Path, tmp_path: Path) -> None:
    place = folder / name
    weights = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(weights[:-7])
    with pytest.raises(ModelError, match=f"{name}/model.safetensors is truncated or altered"):
        check_model_folder(folder)
    (place / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"encodes a {kind} with {name}, which has no safetensors weights"):
        check_model_folder(folder)
    (place / "model.safetensors").write_bytes(weights)
    for file in place.glob("*token*"):
        file.unlink()
    for file in place.glob("vocab*"):
        file.unlink()
    with pytest.raises(ModelError, match=f"encodes a {kind} with {name}, which has no tokenizer"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["types"].update(query_0_Transformer="evil.Module"),
            "names 'evil.Module', which is not a part of",
        ),
        (lambda c: c["structure"].pop("document"), "has no route 'document', only query"),
        (lambda c: c.pop("types"), "truncated or altered"),
        (lambda c: c["types"].update({"../x": "sentence_transformers.base.modules.Normalize"}), "does not lie beside"),
    ],
)
def test_list_of_routes_that_cannot_be_trusted_is_refused(change, message: str, folder: Path) -> None:
    change_json(folder / ROUTER, change)
    with pytest.raises(ModelError, match=message):
        check_model_folder(folder)


# --- which index is theirs ---


def test_index_of_a_model_with_one_encoder_is_that_of_all_its_files(tiny_model: Path) -> None:
    assert passage_model(tiny_model) == model_hash(str(tiny_model))


def test_index_of_two_encoders_is_that_of_the_passages_one(folder: Path) -> None:
    whole, own = model_hash(str(folder)), passage_model(folder)
    change_weights(folder, "query")
    assert passage_model(folder) == own != whole != model_hash(str(folder))
    change_weights(folder, "passage")
    assert passage_model(folder) != own


@pytest.mark.parametrize("name", ["document", "query"])
def test_index_belongs_to_the_prompt_of_passages_and_to_no_other(name: str, folder: Path) -> None:
    own = passage_model(folder)
    change_json(folder / "config_sentence_transformers.json", lambda c: c["prompts"].update({name: "other: "}))
    assert (passage_model(folder) == own) == (name == "query")


def test_mark_names_the_maker_of_the_index_until_the_encoder_of_passages_is_another(folder: Path) -> None:
    own = passage_model(folder)
    mark_passage_model(folder, "maker")
    assert passage_model(folder) == "maker"
    change_weights(folder, "query")
    assert passage_model(folder) == "maker"
    kept = shutil.copytree(folder, folder.parent / "copy")
    change_weights(folder, "passage")
    assert passage_model(folder) not in {"maker", own} and passage_model(kept) == "maker"
    Encoder.load(kept, Machine("cpu", "fp32"))  # the mark is in nobody's way
