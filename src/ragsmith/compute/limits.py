"""What the settings of a class may be: all that is out of bounds is said in one message."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """Numbers that a setting may have. NaN and infinity are none of them.

    Attributes:
        low, high: the bounds.
        above, below: whether the bound itself is out.
        whole: whether the number must be a whole one.
        optional: whether None will do as well.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    optional: bool = False

    def holds(self, value: object) -> bool:
        """Whether a setting may have this value."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        return math.isfinite(number) and low and high

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'above' if self.above else 'of at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'below' if self.below else 'of at most'} {self.high:.10g}")
        kind = "a whole number" if self.whole else "a finite number"
        return " ".join([kind, " and ".join(parts)]).strip() + (" or None" if self.optional else "")


POSITIVE = Limit(0, above=True)
NOT_NEGATIVE = Limit(0)
SHARE = Limit(0, 1)
COUNT = Limit(1, whole=True)  # one or more
NUMBER = Limit(0, whole=True)  # none or more
SEED = Limit(0, 2**32 - 1, whole=True)  # numpy's older generators, and so pandas, take no larger one


def check_limits(settings: Any, limits: Mapping[str, Limit | Sequence[str]]) -> None:
    """Refuse settings that are out of bounds, all at once.

    Args:
        settings: has an attribute of each name.
        limits: by name, the numbers that it may have or the words that it may be.
    Raises:
        ValueError: one is another; the message names each, what was found, and what it may be.

    >>> from types import SimpleNamespace
    >>> check_limits(SimpleNamespace(epochs=0), {"epochs": COUNT})
    Traceback (most recent call last):
    ValueError: SimpleNamespace: epochs is 0; it must be a whole number of at least 1.
    """
    faults = []
    for name, limit in limits.items():
        value = getattr(settings, name)
        if isinstance(limit, Limit):
            if not limit.holds(value):
                faults.append(f"{name} is {value!r}; it must be {limit}")
        elif value not in limit:
            faults.append(f"{name} is {value!r}; it may be {', '.join(limit)}")
    if faults:
        raise ValueError(f"{type(settings).__name__}: {'; '.join(faults)}.")
