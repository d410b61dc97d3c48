"""Folders of models with an encoder for queries and another for passages; and to which model an index belongs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ragsmith.retrieve.models import HASHED_SUFFIXES, ModelError, file_sha256, has_tokenizer, model_hash
from ragsmith.retrieve.routes import PROMPT_NAMES, ROUTE_NAMES, Kind

ROUTER = "router_config.json"
MARK = "passage_model.json"


def route_folders(folder: Path) -> dict[Kind, list[Path]]:
    """The folders of the modules that queries and passages go through; empty for a model with one encoder.

    Raises:
        ModelError: a list of modules or routes is damaged, there is no route for queries or for documents, or a module
            is no part of sentence-transformers.
    """
    if not (folder / ROUTER).is_file():
        return {}
    config = read_json(folder / ROUTER)
    try:
        types = {str(name): str(origin) for name, origin in config["types"].items()}
        structure = {str(route): [str(name) for name in names] for route, names in config["structure"].items()}
        after = [folder / str(module["path"]) for module in read_json(folder / "modules.json")[1:]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / ROUTER} is truncated or altered: it is no list of routes.") from error
    for name, origin in types.items():
        # As in modules.json: a module of any other origin would be code that comes with the weights.
        if not origin.startswith("sentence_transformers."):
            raise ModelError(f"{folder / ROUTER} names {origin!r}, which is not a part of sentence-transformers.")
        if Path(name).name != name or name == "..":
            raise ModelError(f"{folder / ROUTER} names the folder {name!r}, which does not lie beside it.")
    missing = [name for name in ROUTE_NAMES.values() if not structure.get(name)]
    if missing:
        raise ModelError(
            f"{folder / ROUTER} has no route {' and '.join(map(repr, missing))}, only {', '.join(structure)}. Make "
            "the model with Router.for_query_document."
        )
    return {kind: [*(folder / name for name in structure[route]), *after] for kind, route in ROUTE_NAMES.items()}


def first_modules(folder: Path) -> list[str]:
    """Names of the classes that the model's routes begin with, such as Transformer; of most models there is one.

    Args:
        folder: of a checked model; sentence-transformers puts a Transformer around one that is of transformers.
    Raises:
        ModelError: as `route_folders`.
    """
    if found := route_folders(folder):
        types = read_json(folder / ROUTER)["types"]
        return [str(types[modules[0].name]).rpartition(".")[2] for modules in found.values()]
    if not (folder / "modules.json").is_file():
        return ["Transformer"]
    return [str(read_json(folder / "modules.json")[0]["type"]).rpartition(".")[2]]


def check_routes(folder: Path) -> None:
    """Refuse a model whose encoder of queries or of passages is not whole.

    Raises:
        ModelError: as `route_folders`; or a route begins with a module without weights or tokenizer.
    """
    for kind, modules in route_folders(folder).items():
        first = modules[0]
        if not any(first.glob("*.safetensors")):
            raise ModelError(f"{folder} encodes a {kind} with {first.name}, which has no safetensors weights.")
        if not has_tokenizer(first):
            raise ModelError(f"{folder} encodes a {kind} with {first.name}, which has no tokenizer.")


def passage_model(folder: Path) -> str:
    """What an index of this model's passages names as its maker, as a hexadecimal sha256.

    For a model with one encoder, its content hash. Of one with two, the encoder of queries has no part in the index:
    another one leaves it as it is. Where the encoder of passages was taken from a model whole, that is the maker.

    Raises:
        ModelError: as `resolve_model`.
    """
    whole = model_hash(str(folder))
    modules = route_folders(folder).get("passage")
    if modules is None:
        return whole
    route = passage_route_hash(folder, modules)
    if (folder / MARK).is_file():
        mark = read_json(folder / MARK)
        # Somebody may have put another encoder in its place.
        if isinstance(mark, dict) and mark.get("route") == route:
            return str(mark.get("model"))
    return route


def mark_passage_model(folder: Path, maker: str) -> None:
    """Say in a model's folder that its encoder of passages is that of another model, whose index thus fits.

    Args:
        folder: of a model with two encoders; what is said holds as long as its encoder of passages stays as it is.
        maker: `passage_model` of the other.
    """
    route = passage_route_hash(folder, route_folders(folder)["passage"])
    (folder / MARK).write_text(json.dumps({"model": maker, "route": route}, indent=2), "utf-8")


def passage_route_hash(folder: Path, modules: list[Path]) -> str:
    """Content hash of the files that decide the vector of a passage.

    Args:
        folder: of the model.
        modules: the folders that a passage goes through.
    """
    total = hashlib.sha256()
    for number, module in enumerate(modules):
        files = sorted(path for path in module.rglob("*") if path.is_file() and path.suffix in HASHED_SUFFIXES)
        for path in files:
            total.update(f"{number}/{path.relative_to(module).as_posix()}\0{file_sha256(path)}\n".encode())
    settings = folder / "config_sentence_transformers.json"
    stated = read_json(settings) if settings.is_file() else {}
    prompts = stated.get("prompts") or {}
    default = stated.get("default_prompt_name")
    names = (*PROMPT_NAMES["passage"], default)
    kinds = [value for key, value in sorted(read_json(folder / ROUTER)["types"].items()) if folder / key in modules]
    total.update(json.dumps([[prompts.get(name) for name in names], kinds]).encode())
    return total.hexdigest()


def read_json(path: Path) -> Any:
    """What a file of a model holds.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is missing, truncated or altered: it holds no JSON.") from error
