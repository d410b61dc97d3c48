"""Parameters under the names that other programs give them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNCHANGED: Any = object()  # from an alias: our parameter stays as it is


@dataclass(frozen=True)
class OtherNames:
    """What another program's arguments are called here.

    Attributes:
        aliases: other name → our name, and our value from theirs (`UNCHANGED`: theirs asks for nothing). Of several
            for one parameter, the last here counts.
        always: arguments with one value that is how it always is here, and the reason.
        elsewhere: arguments that belong elsewhere, and what to do in their place. Null sets none of these.
    """

    aliases: Mapping[str, tuple[str, Callable[[Any], Any]]] = field(default_factory=dict)
    always: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

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
        if faults:
            raise ValueError("; ".join(faults))
        return found
