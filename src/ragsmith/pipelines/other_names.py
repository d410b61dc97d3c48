"""Parameters under the names that other programs give them."""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

UNCHANGED: Any = object()  # from an alias: our parameter stays as it is


@dataclass(frozen=True)
class OtherNames:
    """What another program's arguments are called here.

    Attributes:
        aliases: other name → our name, and our value from theirs (`UNCHANGED`: theirs asks for nothing). Of several
            for one parameter, the last here counts.
        always: arguments with one value that is how it always is here, and the reason.
        elsewhere: arguments that belong elsewhere, and what to do in their place. Null sets none of these.
        needless: arguments that may be left standing, for they decide nothing that is learned; and how that is here,
            which is logged once.
    """

    aliases: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    always: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    needless: Mapping[str, str] = field(default_factory=dict)

    def translated(self, values: dict[str, Any]) -> dict[str, Any]:
        """The parameters under our names; what stands under another's name counts.

        Raises:
            ValueError: arguments that are always otherwise here, or that belong elsewhere; all, each with the reason.
        """
        found, faults = dict(values), []
        for name, (own, convert) in self.aliases.items():
            if name not in found:
                continue
            try:
                value = convert(found.pop(name))
            except TypeError:
                faults.append(f"{name} (here: {own}) cannot be {values[name]!r}")
                continue
            if value is not UNCHANGED:
                found[own] = value
        for name, (value, reason) in self.always.items():
            if (given := found.pop(name, None)) is not None and given != value:
                faults.append(f"{name} can only be {value!r}: {reason}")
        for name, reason in self.elsewhere.items():
            if found.pop(name, None) is not None:
                faults.append(f"{name} is not set here: {reason}")
        for name, reason in self.needless.items():
            if found.pop(name, None) is not None:
                say_once(f"{name} is passed over: {reason}")
        if faults:
            raise ValueError("; ".join(faults))
        return found


@functools.cache
def say_once(message: str) -> None:
    """Log it the first time: parameters are read by the check before a run and by each step."""
    logger.info(message)


def prompt_of_format(values: dict[str, Any], instruction: str, template: str) -> None:
    """Write FlagEmbedding's instruction and the format that it is put into as one: what stands before the text.

    Args:
        values: parameters, changed in place. Without an instruction there is none, and the format counts for nothing.
        instruction, template: names of both; a format is `{}{}` or such as `Instruct: {} Query: {}`.
    Raises:
        ValueError: something stands after the text, or the format has not two places.
    """
    layout = values.pop(template, None)
    if layout is None or not values.get(instruction):
        return
    layout = str(layout).replace("\\n", "\n")  # as theirs: a shell gives the two characters
    if layout.count("{}") != 2 or not layout.endswith("{}"):
        raise ValueError(
            f"{template} is {layout!r}: what is put before a text can be set, and nothing after it. Give it two {{}}, "
            "the second at its end, for the instruction and the text."
        )
    values[instruction] = layout.removesuffix("{}").replace("{}", str(values[instruction]), 1)
