"""Provenance holds within its body and no longer."""

import pytest

from ragsmith.store import Provenance, current_provenance, recording


def test_provenance_is_current_within_the_body_only_even_when_it_fails():
    inner, outer = Provenance("inner", "1"), Provenance("outer", "2")
    with recording(outer):
        with pytest.raises(RuntimeError), recording(inner):
            assert current_provenance() == inner
            raise RuntimeError
        assert current_provenance() == outer
    assert current_provenance() is None
