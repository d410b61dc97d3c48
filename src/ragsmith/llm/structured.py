"""Ask for JSON of a given form, and take nothing else for it."""

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ragsmith.llm.messages import printable

Form = TypeVar("Form", bound=BaseModel)

FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
ASK_AGAIN = (
    "Your reply could not be used: {fault}. Reply again to what was asked before, with one JSON object of the form "
    "that was given and nothing else."
)


class InvalidReply(ValueError):
    """A reply that is not the JSON that was asked for; the text says in what."""


def parse(text: str, form: type[Form]) -> Form:
    """The value that a reply is, when it is nothing but that value.

    The whole reply has to be the object; one fence of Markdown around it is taken off. An object that stands
    somewhere in prose is not looked for: it may be a quotation of what the model was given to read.

    Args:
        text: the reply.
        form: a pydantic model; types are not converted, so that "false" is no bool.
    Raises:
        InvalidReply: it is not.
    """
    stripped = text.strip()
    fenced = FENCED.match(stripped)
    try:
        return form.model_validate_json(fenced.group(1) if fenced else stripped, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = [
            # The name of a field that should not be there is the reply's own text, and goes no further.
            fault["msg"]
            if fault["type"] == "extra_forbidden"
            else f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in faults
        ]
        raise InvalidReply(printable("; ".join(said).removeprefix(": "))) from None


def response_format(form: type[BaseModel], structured: str) -> dict[str, Any] | None:
    """The field of the request that asks for this form; None for `text`."""
    if structured == "json_schema":
        schema = {"name": form.__name__, "schema": form.model_json_schema(), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if structured == "json_object" else None
