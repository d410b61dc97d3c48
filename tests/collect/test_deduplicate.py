import pandas as pd

from ragsmith.collect.deduplicate import drop_exact_duplicates


def test_the_first_of_equal_texts_stays_and_the_others_point_to_it() -> None:
    texts = ["Same text.", "Other.", "same  TEXT.", " Same\ntext.\n", "Same text"]
    passages = pd.DataFrame({"passage_id": ["p1", "p2", "p3", "p4", "p5"], "text": texts, "page": 1})
    kept, removed = drop_exact_duplicates(passages)
    assert kept["passage_id"].tolist() == ["p1", "p2", "p5"]
    assert kept.columns.tolist() == ["passage_id", "text", "page"] and kept.index.tolist() == [0, 1, 2]
    assert removed.to_dict("records") == [
        {"passage_id": "p3", "duplicate_of": "p1"},
        {"passage_id": "p4", "duplicate_of": "p1"},
    ]


def test_without_duplicates_nothing_is_removed_and_the_columns_are_there() -> None:
    kept, removed = drop_exact_duplicates(pd.DataFrame({"passage_id": ["p1"], "text": ["a"]}))
    assert len(kept) == 1 and removed.empty and removed.columns.tolist() == ["passage_id", "duplicate_of"]
