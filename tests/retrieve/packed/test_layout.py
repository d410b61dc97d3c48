import pytest
import torch

from ragsmith.retrieve.packed.layout import Group, pack


def test_a_layout_tells_where_each_token_belongs() -> None:
    flat, layout = pack([[5, 6, 7], [8], [9]], "cpu")
    assert flat.tolist() == [5, 6, 7, 8, 9]
    assert layout.groups == [Group(0, 1, 3), Group(3, 2, 1)]
    assert layout.positions.tolist() == [0, 1, 2, 0, 0]
    assert layout.sequence_of.tolist() == [0, 0, 0, 1, 2]
    assert layout.boundaries.tolist() == [0, 3, 4, 5] and layout.boundaries.dtype == torch.int32
    assert layout.starts.tolist() == [0, 3, 4]


def test_a_sequence_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequence 1 has no token"):
        pack([[1], []], "cpu")
