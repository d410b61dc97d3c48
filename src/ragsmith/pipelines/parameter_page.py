"""The page of all parameters in the documentation, from the models that check them.

`python -m ragsmith.pipelines.parameter_page > docs/parameters.md`, in the project's folder, writes it anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

HEAD = """# Parameters

What stands in `conf/base/parameters_<pipeline>.yml`, what it may be, and what it is there (of entries that a list may
have, what they are where nothing is said), in the order of the pipelines; `compute` and `index` are in
`parameters.yml`. A value of another type, one out of its range and an unknown name are refused before anything runs.
FlagEmbedding's and transformers' names for some of them are in
[Mining negatives](mining.md#sampling-as-hn_mine-does) and [Tuning the retriever](retriever.md).

`python -m ragsmith.pipelines.parameter_page > docs/parameters.md` writes this page.
"""
COLUMNS = "| name | may be | default | |\n|---|---|---|---|\n"
BOUNDS = ((Ge, "ge", "from"), (Gt, "gt", "above"), (Le, "le", "to"), (Lt, "lt", "below"))
PLAIN = {bool: "`true`, `false`", int: "a whole number", float: "a number", str: "a text"}


def parameter_page(models: Mapping[str, type[BaseModel]], values: Mapping[str, Any]) -> str:
    """Markdown with one table for each block of parameters.

    Args:
        models: by the name of their block, in the order of the page.
        values: of all blocks, as configured.
    """
    parts = [HEAD]
    for name, model in models.items():
        rows = "".join(row(*one) for one in described(model, values.get(name)))
        parts.append(f"## {name}\n\n{COLUMNS}{rows}")
    return "\n".join(parts)


def described(model: type[BaseModel], value: Any, above: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    """Each field of a model and of the models in it: dotted name, field, configured value."""
    for name, field in model.model_fields.items():
        own = value.get(name, field.default) if isinstance(value, Mapping) else field.default
        inner = inner_model(field.annotation)
        if inner is None or inner is not field.annotation:
            yield f"{above}{name}", field, own
        if inner is not None:
            mark = "[]" if get_origin(field.annotation) is list else ""
            yield from described(inner, own, f"{above}{name}{mark}.")


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, may hold, or holds a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := inner_model(one))), None)


def row(name: str, field: FieldInfo, value: Any) -> str:
    """One line of a table."""
    cells = (f"`{name}`", allowed(field.annotation, field.metadata), shown(value), field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def shown(value: Any) -> str:
    """A value as YAML has it; nothing for one that has to be given."""
    if value is PydanticUndefined or isinstance(value, Mapping):
        return ""
    return f"`{json.dumps(value)}`".replace('"', "") if value != "" else "`''`"


def allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field may be, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(one)}`".replace('"', "") for one in arguments)
    if origin in (Union, UnionType):
        parts = [allowed(one, metadata) for one in arguments if one is not NoneType]
        return " or ".join([*parts, "`null`"] if NoneType in arguments else parts)
    if origin is list:
        return f"a list of: {allowed(arguments[0])}"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return allowed(arguments[0], [*metadata, *annotation.__metadata__])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "what follows"
    said = PLAIN.get(annotation, "anything")
    found = [
        f"{word} {getattr(one, name)}" for kind, name, word in BOUNDS for one in metadata if isinstance(one, kind)
    ]
    return " ".join([said, *found]) if annotation in (int, float) else said


def main(folder: Path) -> str:
    """The page of the project in a folder."""
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project
    from kedro.validation import TypeExtractor

    from ragsmith.session import RagsmithSession

    bootstrap_project(folder)
    context = RagsmithSession.create(folder, env="base", save_on_close=False).load_context()
    types = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    blocks = list(dict.fromkeys([*(name for name in pipelines if name in types), *sorted(types)]))
    return parameter_page({name: types[name] for name in blocks}, context.config_loader["parameters"])


if __name__ == "__main__":
    print(main(Path.cwd()), end="")
