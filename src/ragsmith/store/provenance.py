"""What an artefact was made from, and the way it reaches the place where artefacts are published."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """The step that wrote an artefact and what it read.

    Attributes:
        node: name of the step.
        fingerprint: hash of everything that the step's result depends on; equal fingerprints, equal result.
        inputs: content hash of each input, by dataset or parameter name.
    """

    node: str
    fingerprint: str
    inputs: Mapping[str, str] = field(default_factory=dict)


_CURRENT: ContextVar[Provenance | None] = ContextVar("ragsmith_provenance", default=None)


@contextmanager
def recording(provenance: Provenance | None) -> Iterator[None]:
    """Write `provenance` into the metadata of every artefact that is published in the body.

    A context variable and not an argument, because between the runner and the artefact stands Kedro's catalog, whose
    `save(name, data)` carries nothing else. It does not reach threads that the body starts.
    """
    token = _CURRENT.set(provenance)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_provenance() -> Provenance | None:
    """The provenance of the enclosing `recording`, or None outside of one."""
    return _CURRENT.get()
