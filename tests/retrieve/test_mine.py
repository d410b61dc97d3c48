from typing import Any

import numpy as np
import pandas as pd
import pytest

from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.mine import MINED_COLUMNS, MiningSettings, mine_hard_negatives


def unit(rows: int, dimension: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mine(
    cosines: dict[str, float],
    documents: dict[str, str],
    right: list[str],
    allowed: set[str] | None = None,
    **settings: Any,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Mine for one query at (1, 0), with passages of the given cosines to it."""
    values = np.asarray(list(cosines.values()), dtype=np.float32)
    index = DenseIndex(list(cosines), np.stack([values, np.sqrt(1 - values**2)], axis=1))
    passages = pd.DataFrame({"passage_id": list(cosines), "document_id": [documents[name] for name in cosines]})
    passages["title"] = passages["passage_id"].str.removesuffix(" again")  # another piece of that section
    return mine_hard_negatives(
        ["q"],
        np.asarray([[1, 0]], dtype=np.float32),
        {"q": right},
        index,
        passages,
        allowed if allowed is not None else set(documents.values()),
        MiningSettings(**settings),
    )


COSINES = {
    "above": 0.9,
    "right": 0.8,
    "tight": 0.79,
    "near": 0.77,
    "right again": 0.75,
    "sibling": 0.7,
    "held": 0.6,
    "far": 0.5,
    "tail": 0.1,
}
DOCUMENTS = {name: name for name in COSINES} | {"sibling": "right", "right again": "right"}
# Below .76 = .95 × .8 only `far` and `tail` may be taken: one shares the section, one the document, `held` is of dev.
ALLOWED = set(DOCUMENTS.values()) - {"held"}


def test_a_case_worked_by_hand() -> None:
    mined, audit = mine(COSINES, DOCUMENTS, ["right"], ALLOWED, num_negatives=1, top_k=100)
    assert mined.columns.tolist() == MINED_COLUMNS
    assert mined.iloc[0].to_dict() | {"negative_scores": None} == {
        "query_id": "q",
        "positive_ids": ["right"],
        "negative_ids": ["far"],
        "negative_scores": None,
        "teacher_scores": [],
    }
    assert mined["negative_scores"][0] == pytest.approx([0.5], abs=1e-6)
    assert audit["dropped"] == {
        "positive": 1,
        "same_section": 1,
        "same_document": 1,
        "not_in_training_documents": 1,
        "above_margin": 3,
        "not_needed": 1,
    }
    assert (audit["queries"], audit["mined"], audit["without_negative"], audit["starved"]) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("num_negatives", "negatives", "relaxed"),
    [
        (2, ["far", "tail"], {"0.02": 0, "0.0": 0}),
        (3, ["near", "far", "tail"], {"0.02": 1, "0.0": 0}),  # .77 is below .98 × .8
        (4, ["tight", "near", "far", "tail"], {"0.02": 0, "0.0": 1}),
        (9, ["tight", "near", "far", "tail"], {"0.02": 0, "0.0": 1}),  # starves, and keeps what there is
    ],
)
def test_a_query_that_starves_takes_the_first_margin_that_suffices(
    num_negatives: int, negatives: list[str], relaxed: dict[str, int]
) -> None:
    mined, audit = mine(COSINES, DOCUMENTS, ["right"], ALLOWED, num_negatives=num_negatives)
    assert mined["negative_ids"][0] == negatives
    assert audit["relaxed_to_margin"] == relaxed
    assert audit["starved"] == int(num_negatives > 2)


def test_a_relaxed_margin_that_is_stricter_takes_nothing_away() -> None:
    mined, _ = mine(COSINES, DOCUMENTS, ["right"], relative_margin=0.0, relaxed_margins=(0.5,), num_negatives=50)
    assert "tight" in mined["negative_ids"][0]


def test_the_same_document_is_searched_when_asked_but_not_the_same_section() -> None:
    mined, audit = mine(COSINES, DOCUMENTS, ["right"], exclude_same_document=False, num_negatives=1)
    assert mined["negative_ids"][0] == ["sibling"] and audit["dropped"]["same_document"] == 0


def test_the_weakest_of_several_positives_sets_the_margin() -> None:
    mined, audit = mine(COSINES, DOCUMENTS, ["right", "far"], num_negatives=1)
    assert mined["negative_ids"][0] == ["tail"] and audit["dropped"]["positive"] == 2


def test_a_positive_below_zero_still_leaves_room_below_it() -> None:
    cosines = {"right": -0.5, "just below": -0.51, "below": -0.6}
    mined, _ = mine(cosines, {name: name for name in cosines}, ["right"], num_negatives=1, relaxed_margins=())
    assert mined["negative_ids"][0] == ["below"]


def test_no_negative_at_all_is_an_error_that_names_the_parameters() -> None:
    with pytest.raises(ValueError, match=r"None of 1 queries keeps a negative\. Raise top_k"):
        mine({"above": 0.9, "right": 0.5}, {"above": "a", "right": "r"}, ["right"])


@pytest.mark.parametrize(
    "settings", [MiningSettings(40, 4, 0.5, (0.3, 0.0)), MiningSettings(60, 3, 0.3, (0.1,), False)]
)
def test_it_finds_what_a_slow_loop_over_all_pairs_finds_and_the_audit_adds_up(settings: MiningSettings) -> None:
    ids = [f"p{number}" for number in range(60)]
    document_of = {passage_id: f"d{number // 4}" for number, passage_id in enumerate(ids)}
    section_of = {passage_id: f"s{number // 2}" for number, passage_id in enumerate(ids)}
    allowed = {f"d{number}" for number in range(12)}
    vectors, queries = unit(60, 4, seed=1), unit(15, 4, seed=2)
    positives = {f"q{number}": ids[number : number + 1 + number % 2] for number in range(15)}
    mined, audit = mine_hard_negatives(
        list(positives),
        queries,
        positives,
        DenseIndex(ids, vectors),
        pd.DataFrame(
            {"passage_id": ids, "document_id": list(document_of.values()), "title": list(section_of.values())}
        ),
        allowed,
        settings,
    )
    expected = {}
    for query, (query_id, right) in zip(queries, positives.items(), strict=True):
        score = {passage_id: float(query @ vector) for passage_id, vector in zip(ids, vectors, strict=True)}
        nearest = sorted(ids, key=lambda passage_id: -score[passage_id])[: settings.top_k]
        own = {document_of[passage_id] for passage_id in right}
        same = {section_of[passage_id] for passage_id in right}
        fits = [
            name
            for name in nearest
            if section_of[name] not in same
            and document_of[name] in allowed
            and not (settings.exclude_same_document and document_of[name] in own)
        ]
        weakest = min(score[name] for name in right)
        for margin in (settings.relative_margin, *settings.relaxed_margins):
            kept = [name for name in fits if score[name] <= weakest - margin * abs(weakest)][: settings.num_negatives]
            if len(kept) == settings.num_negatives:
                break
        expected[query_id] = kept
    assert dict(zip(mined["query_id"], mined["negative_ids"], strict=True)) == expected
    assert 0 < audit["mined"] < 15 and audit["mined"] + audit["without_negative"] == 15
    assert audit["starved"] >= sum(audit["relaxed_to_margin"].values()) > 0
    assert sum(audit["dropped"].values()) + audit["negatives"] == 15 * settings.top_k
