"""What is asked of a language model, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FailureKind = Literal["busy", "timeout", "refused", "garbled", "empty", "invalid"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str

    def to_json(self) -> dict[str, str]:
        """As the protocol has it; a lone surrogate, which no encoding has, becomes a question mark."""
        return {"role": self.role, "content": self.content.encode("utf-8", "replace").decode()}


@dataclass(frozen=True)
class Prompt:
    """A conversation to be continued.

    Attributes:
        messages: in order.
        repeat: which time it is asked, from 0; each has a seed and a place in the cache of its own.
    """

    messages: tuple[Message, ...]
    repeat: int = 0


@dataclass(frozen=True)
class Reply:
    """What the model wrote: text that nobody has checked, and why it ended (`stop`, `length`, …)."""

    text: str
    finish_reason: str


@dataclass(frozen=True)
class Failure:
    """Why one prompt has no usable reply, while others may have.

    Attributes:
        kind: `busy` (429 or 5xx to the last try), `timeout`, `refused` (the endpoint took offence at this request),
            `garbled` (no reply of the protocol, too large, or too slow), `empty`, `invalid` (not the JSON asked for).
        message: for a person, with the setting to change; at most a few hundred characters.
    """

    kind: FailureKind
    message: str


def printable(text: object, most: int = 200) -> str:
    r"""Text of a stranger on one line, without what moves a terminal's cursor or turns its direction.

    >>> printable("no such\n\x1b[2J model")
    'no such  [2J model'
    """
    cut = str(text)[:most]
    return "".join(sign if sign.isprintable() else " " for sign in cut).strip()


def said_by(body: object) -> str:
    """The endpoint's own words in the body of an error, made printable; empty when it has none."""
    while isinstance(body, Mapping):
        body = body.get("message") or body.get("error") or body.get("detail")
    return printable(body) if isinstance(body, str) else ""
