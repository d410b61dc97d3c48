"""Settings that are out of bounds are refused, all in one message."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ragsmith.compute.limits import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, Limit, check_limits


@pytest.mark.parametrize(
    ("limit", "value", "holds"),
    [
        (COUNT, 1, True),
        (COUNT, np.int64(3), True),
        (COUNT, 0, False),
        (COUNT, 1.0, False),
        (COUNT, True, False),
        (COUNT, "1", False),
        (COUNT, None, False),
        (POSITIVE, 1e-9, True),
        (POSITIVE, 0, False),
        (NOT_NEGATIVE, 0, True),
        (NOT_NEGATIVE, -1e-9, False),
        (NOT_NEGATIVE, math.inf, False),
        (NOT_NEGATIVE, math.nan, False),
        (SHARE, 1, True),
        (SHARE, 1.01, False),
        (Limit(0, 1, below=True, optional=True), None, True),
        (Limit(0, 1, below=True, optional=True), 1.0, False),
        (SEED, 2**32 - 1, True),
        (SEED, 2**32, False),
    ],
)
def test_limit_holds_between_its_bounds_for_finite_numbers_of_its_kind(limit, value, holds):
    assert limit.holds(value) is holds


def test_all_faults_are_said_at_once_with_what_was_found_and_what_may_be():
    settings = SimpleNamespace(kind="foo", rate=math.nan, seed=2**32, epochs=3, dropout=1.0)
    limits = {
        "kind": ("one", "two"),
        "rate": POSITIVE,
        "seed": SEED,
        "epochs": COUNT,
        "dropout": Limit(0, 1, below=True, optional=True),
    }
    with pytest.raises(ValueError) as raised:
        check_limits(settings, limits)
    assert str(raised.value) == (
        "SimpleNamespace: kind is 'foo'; it may be one, two; rate is nan; it must be a finite number above 0; "
        "seed is 4294967296; it must be a whole number of at least 0 and of at most 4294967295; "
        "dropout is 1.0; it must be a finite number of at least 0 and below 1 or None."
    )
