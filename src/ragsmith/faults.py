"""What a person may have got wrong in the configuration and in what a run reads, and how it is said."""

import difflib
import linecache
import re
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework import project
from kedro.framework.project import pipelines
from kedro.io import DatasetError
from omegaconf.errors import OmegaConfBaseException

from ragsmith.datasets import ModelSource

SHOWN_FAULTS = 20
# What our own code raises to be read: UntrainedModel is a RuntimeError, ModelError a ValueError, and so on.
EXPECTED = DatasetError | ValueError | RuntimeError | ArithmeticError | MemoryError | OSError | ImportError
_YAML = frozenset({".yml", ".yaml", ".json"})


class UserError(click.ClickException):
    """Something that the person at the keyboard can put right: printed without a traceback, exit status 1."""


def refuse(faults: list[str], where: str, cause: Exception | None = None) -> None:
    """Raise one UserError that lists all faults (the first twenty); do nothing when there are none."""
    if not faults:
        return
    more = [f"… and {len(faults) - SHOWN_FAULTS} more"] if len(faults) > SHOWN_FAULTS else []
    lines = "".join(f"\n  - {fault}" for fault in [*faults[:SHOWN_FAULTS], *more])
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise UserError(f"{count} {where}; nothing was run:{lines}") from cause


def parameter_faults(loader: Any, raw: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Each value that a typed parameter of these pipelines refuses: its key, the reason, and where it is set.

    Kedro's own text has the reasons of a whole model in one piece and does not say where a value comes from.
    """
    from kedro.validation import ModelInstantiationError, TypeExtractor
    from kedro.validation.model_factory import instantiate_model
    from kedro.validation.utils import _MISSING, _unwrap_optional, resolve_nested_dict_path
    from pydantic import ValidationError

    faults = []
    types = TypeExtractor({name: pipelines[name] for name in names}).extract_types_from_pipelines()
    for key, annotation in sorted(types.items()):
        value = resolve_nested_dict_path(dict(raw), key)
        wanted = _unwrap_optional(annotation)
        if value is _MISSING or (value is None and wanted is not annotation):
            continue
        try:
            if value is None:
                raise ModelInstantiationError("nothing stands here")
            instantiate_model(key, value, wanted)
        except ModelInstantiationError as error:
            if isinstance(error.__cause__, ValidationError):
                for item in error.__cause__.errors(include_url=False):
                    faults.append(_fault(loader, key, item["loc"], _reason(item, wanted)))
            else:
                faults.append(_fault(loader, key, (), str(error)))
    return faults


def model_faults(loader: Any, catalog: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Each model that these pipelines start from and that cannot be used, so that one message has these faults too."""
    faults = []
    for name in sorted(inputs_of(names) & catalog.keys()):
        if str(catalog[name].get("type")).rpartition(".")[2] != ModelSource.__name__:
            continue
        try:
            spec = catalog[name].get("spec")
            ModelSource(spec=None if spec is None else str(spec)).check()
        except DatasetError as error:
            faults.append(dataset_fault(loader, name, error))
    return faults


def inputs_of(names: Iterable[str]) -> set[str]:
    """What these pipelines read and do not make."""
    return {dataset for name in names for dataset in pipelines[name].inputs()}


def unfit_models(
    loader: Any, raw: Mapping[str, Any], catalog: Mapping[str, Any], inputs: Collection[str]
) -> list[str]:
    """The models that a training begins with and that it cannot train."""
    return reader_faults(loader, raw, catalog, inputs) + retriever_faults(loader, raw, catalog, inputs)


def reader_faults(
    loader: Any, raw: Mapping[str, Any], catalog: Mapping[str, Any], inputs: Collection[str]
) -> list[str]:
    """The model that the reader is made from, where it cannot be a reader of the kind that is asked for."""
    from ragsmith.read.base_model import unfit_base

    wanted, folder = raw.get("rag_training"), _model_folder(catalog, "base_reader", inputs)
    if not isinstance(wanted, Mapping) or folder is None:
        return []
    fault = unfit_base(folder, str(wanted.get("reader", "extractive")))
    return [f"base_reader: {fault}{_origin(loader, 'base_reader.spec', 'catalog')}"] if fault else []


def retriever_faults(
    loader: Any, raw: Mapping[str, Any], catalog: Mapping[str, Any], inputs: Collection[str]
) -> list[str]:
    """The model that the retriever is made from, for each training that cannot train it."""
    from ragsmith.learn.trainable import INSTEAD, untrainable

    trainings = [name for name in INSTEAD if f"params:{name}" in inputs and _trains_transformers(name, raw.get(name))]
    folder = _model_folder(catalog, "base_encoder", inputs) if trainings else None
    faults = [untrainable(folder, name) for name in trainings] if folder is not None else []
    return [f"base_encoder: {fault}{_origin(loader, 'base_encoder.spec', 'catalog')}" for fault in faults if fault]


def _model_folder(catalog: Mapping[str, Any], name: str, inputs: Collection[str]) -> Path | None:
    """Where a model lies that the pipelines read; None where they do not, none is named, or it cannot be used."""
    spec = (catalog.get(name) or {}).get("spec")
    if name not in inputs or spec is None:
        return None
    try:
        return ModelSource(spec=str(spec)).load()
    except DatasetError:
        return None  # said as a fault of the model


def _trains_transformers(name: str, wanted: Any) -> bool:
    """Whether a training, by these parameters, works on the tokens of the retriever."""
    from pydantic import ValidationError

    from ragsmith.pipelines.rag_training.params import RagTrainingParams

    if not isinstance(wanted, Mapping):
        return False
    if name == "retriever_training":
        return bool(wanted.get("backend") != "sentence_transformers")
    try:
        return RagTrainingParams.model_validate(dict(wanted)).trained() != "none"
    except ValidationError:
        return False  # said as a fault of the parameter


def said_on_purpose(error: BaseException) -> bool:
    """Whether our own code, or the project's, raised an error of the kinds that it raises to be read.

    What a library raises, and what nobody foresaw, keeps its traceback. A dataset's error is Kedro's, which names the
    dataset; there, what it came from decides.
    """
    if isinstance(error, DatasetError) and error.__cause__ is not None:
        return said_on_purpose(error.__cause__)
    if not isinstance(error, EXPECTED):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return False
    frame, line = frames[-1]
    ours = {__name__.partition(".")[0], project.PACKAGE_NAME}
    statement = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ours and statement.startswith("raise")


def unknown_pipelines(arguments: Mapping[str, Any]) -> list[str]:
    """Pipelines that were asked for and are not registered."""
    pipelines.set_requested(None)
    wanted = requested(arguments)
    known = [name for name in pipelines if name != "__default__"]
    return [
        f"--pipelines {name}: there is no such pipeline.{nearest(name, known)} Pipelines: {', '.join(known)}."
        for name in wanted
        if name not in pipelines
    ]


def requested(arguments: Mapping[str, Any]) -> list[str]:
    """Names of the pipelines that `KedroSession.run` was asked for; none stands for the default."""
    return list(arguments.get("pipeline_names") or filter(None, [arguments.get("pipeline_name")]))


def unknown_parameters(loader: Any, raw: Mapping[str, Any]) -> list[str]:
    """Top-level parameter keys that no step of any pipeline reads: most often a slip of the finger.

    A step that takes `parameters`, all of them, writes them down and reads none.
    """
    pipelines.set_requested(None)
    used = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    names = {name.removeprefix("params:") for name in used if name.startswith("params:")}
    known = names | {name.partition(".")[0] for name in names}
    shared = Path(loader.conf_source) / loader.base_env / "globals.yml"
    globals_ = _plain(shared) if shared.is_file() else {}
    return [
        f"{key}: no step of any pipeline reads this parameter."
        f"{' It is a key of globals.yml and can be set there alone.' if key in globals_ else nearest(key, known)}"
        f"{_origin(loader, key)}"
        for key in raw
        if key not in known and not key.startswith("_")
    ]


def unknown_globals(loader: Any) -> list[str]:
    """Keys of the environment's globals.yml that the base's does not have, and that would thus change nothing."""
    conf, environment = Path(loader.conf_source), loader.env or loader.default_run_env
    base, chosen = conf / loader.base_env / "globals.yml", conf / environment / "globals.yml"
    if base == chosen or not base.is_file() or not chosen.is_file():
        return []
    return [f"{fault} (conf/{environment}/globals.yml)" for fault in _unknown_keys(_plain(chosen), _plain(base))]


def _unknown_keys(found: Mapping[str, Any], known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in found.items():
        if key not in known:
            yield f"{above}{key}: conf/base/globals.yml has no such key.{nearest(key, known)}"
        elif isinstance(value, dict) and isinstance(known[key], dict) and known[key]:
            yield from _unknown_keys(value, known[key], f"{above}{key}.")


def read_configuration(loader: Any, kind: str) -> dict[str, Any]:
    """The parameters or the catalog, as the files and the command line have them."""
    try:
        found: dict[str, Any] = loader[kind]
    except MissingConfigException:
        return dict(loader.runtime_params or {}) if kind == "parameters" else {}
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"The {kind} cannot be read: {error}") from error
    return found


def dataset_fault(loader: Any, name: str, error: DatasetError) -> str:
    """The fault, and where a model's name is set; of a file that is not as it should be, the error says which."""
    return f"{name}: {error}{_origin(loader, f'{name}.spec', 'catalog')}"


def _fault(loader: Any, key: str, below: Iterable[str | int], reason: str) -> str:
    path = ".".join([key, *map(str, below)])
    stop = "" if reason.endswith(("?", ".")) else "."
    return f"{path}: {reason}{stop}{_origin(loader, path)}"


def _reason(item: Any, model: Any) -> str:
    """Pydantic's reason, with what was found and, for an unknown field, the nearest that exists."""
    # What stands where the name of a key's variable belongs may be the key itself.
    hidden = isinstance(item["input"], dict) or any("key" in str(part) for part in item["loc"])
    found = "" if hidden else f" (found {item['input']!r})"
    hint = ""
    if item["type"] == "extra_forbidden":
        for step in item["loc"][:-1]:
            field = getattr(model, "model_fields", {}).get(step)
            model = field.annotation if field is not None else None
        hint = nearest(str(item["loc"][-1]), getattr(model, "model_fields", {}))
    return f"{item['msg']}{found}{'.' if hint else ''}{hint}"


def _origin(loader: Any, path: str, kind: str = "parameters") -> str:
    """Which files, in the order in which they count, and whether the command line, set the value at `path`.

    Args:
        loader: of the configuration.
        path: keys, joined by dots.
        kind: what the names of the files begin with.
    """
    keys = path.split(".")
    conf, places = Path(loader.conf_source), []
    for environment in dict.fromkeys((loader.base_env, loader.env or loader.default_run_env)):
        for file in sorted((conf / environment).rglob("*")):
            named = any(part.startswith(kind) for part in file.relative_to(conf / environment).parts)
            if not named or file.suffix not in _YAML or not file.is_file():
                continue
            values = _plain(file)
            if keys[0] in values:
                whole, raw = _value_at(values, keys)
                places.append((whole, f"{file.relative_to(conf.parent).as_posix()}{_global_origin(loader, raw)}"))
    if keys[0] in (given := loader.runtime_params or {}):
        places.append((_value_at(given, keys)[0], "--params"))
    # A parameter that no file sets is missing in all that set others of its block; most entries have no `spec`.
    others = [place for _, place in places] if kind == "parameters" else []
    shown = [place for whole, place in places if whole] or others
    return f" Set in {', '.join(shown)}." if shown else ""


def _global_origin(loader: Any, raw: Any) -> str:
    """For a value such as `${globals:models.encoder}`: that, and the globals.yml where it is to be changed."""
    if not isinstance(raw, str) or "${" not in raw:
        return ""
    conf, keys = Path(loader.conf_source), re.findall(r"\$\{globals:\s*([\w.]+)", raw)
    for environment in (loader.env or loader.default_run_env, loader.base_env):
        file = conf / environment / "globals.yml"
        if keys and file.is_file() and _value_at(_plain(file), keys[0].split("."))[0]:
            return f" as {raw} ({file.relative_to(conf.parent).as_posix()})"
    return f" as {raw}"


def _value_at(values: Any, path: Iterable[str]) -> tuple[bool, Any]:
    """Whether `path` leads to a value, and the value that it leads to, or as far as it leads."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False, values
        values = values[key]
    return True, values


def _plain(file: Path) -> dict[str, Any]:
    """A YAML file's keys and values, interpolations as they are written."""
    values = yaml.safe_load(file.read_text("utf-8"))
    return values if isinstance(values, dict) else {}


def nearest(name: str, known: Iterable[str]) -> str:
    """A question whether a known name was meant, with a space before; empty where none is like it."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
