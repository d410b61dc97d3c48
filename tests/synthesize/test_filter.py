import numpy as np
import pandas as pd
import pytest

from ragsmith.retrieve.index import DenseIndex
from ragsmith.synthesize.filter import merge_same_text, round_trip

# Four passages on the unit circle, at 0, 30, 60 and 90 degrees.
ANGLES = np.radians([0, 30, 60, 90])
INDEX = DenseIndex(["p0", "p30", "p60", "p90"], np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32))


def queries(*passage_ids: str) -> pd.DataFrame:
    ids = [f"q{number}" for number in range(len(passage_ids))]
    return pd.DataFrame({"query_id": ids, "text": ids, "split": "train", "passage_id": passage_ids})


def test_a_query_stays_when_its_passage_is_among_the_nearest() -> None:
    vectors = np.asarray([[1, 0]] * 3, dtype=np.float32)  # from 0 degrees: p0, p30, p60, p90
    kept, removed = round_trip(queries("p0", "p60", "p30"), vectors, INDEX, top_k=2)
    assert kept["query_id"].tolist() == ["q0", "q2"] and "split" in kept
    assert removed.to_dict("records") == [
        {"query_id": "q1", "text": "q1", "passage_id": "p60", "reason": "its passage is not among the first 2"}
    ]


def test_looking_at_everything_removes_nothing() -> None:
    vectors = np.asarray([[1, 0], [0, 1]], dtype=np.float32)
    kept, removed = round_trip(queries("p90", "p0"), vectors, INDEX, top_k=100)
    assert len(kept) == 2 and removed.empty


def test_nothing_kept_is_an_error_that_names_the_parameter() -> None:
    with pytest.raises(ValueError, match=r"No query of 1 .* first 1\. Raise top_k"):
        round_trip(queries("p90"), np.asarray([[1, 0]], dtype=np.float32), INDEX, top_k=1)


def test_the_same_words_in_one_split_are_one_query_with_several_right_passages() -> None:
    table = pd.DataFrame(
        {
            "query_id": ["q1", "q2", "q3", "q4", "q5"],
            "text": ["Open a file", "open  A file", "Close it", "Open a file", "Open a file"],
            "split": ["train", "train", "train", "dev", "train"],
            "passage_id": ["p1", "p2", "p3", "p4", "p1"],
        }
    )
    merged, pairs = merge_same_text(table)
    assert merged["query_id"].tolist() == ["q1", "q3", "q4"]
    assert list(pairs.itertuples(index=False, name=None)) == [("q1", "p1"), ("q1", "p2"), ("q3", "p3"), ("q4", "p4")]
