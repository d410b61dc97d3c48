"""Citation recall and precision against values worked out by hand, with plain functions in the place of a model."""

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.citations import Claim, score_citations


def table(*rows):
    values = [(f"q{number}", "Where?", answer, citations) for number, (answer, citations) in enumerate(rows)]
    return pd.DataFrame(values, columns=["query_id", "query", "answer", "citations"])


def needs(*words):
    """Supports a claim whose passages have all these words between them."""
    return lambda claims: [float(all(word in " ".join(claim.passages) for word in words)) for claim in claims]


def scores(citations, supports, answer="Paris"):
    row = score_citations(table((answer, citations)), supports).iloc[0]
    return tuple(row[["supported", "citation_recall", "citation_precision"]])


@pytest.mark.parametrize(
    ("citations", "expected"),
    [
        (["ab"], (1, 1, 1)),  # the one citation of an extractive reader
        (["a"], (0, 0, 0)),
        (["ab", "x"], (1, 1, 1 / 2)),  # the second is not needed and says nothing
        (["x", "ab", "y"], (1, 1, 1 / 3)),
        (["ab", "ab too"], (1, 1, 1)),  # either is enough: both are precise
        (["a", "b"], (0, 1, 1)),  # only together, and none can be left out
        (["a", "b", "x"], (0, 1, 2 / 3)),
        (["a", "b", "ab"], (1, 1, 1 / 3)),  # "a" and "b" support only what the third does without them
        (["a", "b", "b too"], (0, 1, 1 / 3)),  # either "b" can be left out
        (["x", "y"], (0, 0, 0)),
        ([], (0, 0, 0)),
        (None, (0, 0, 0)),
        (["", " \n"], (0, 0, 0)),
        (["ab", "ab"], (1, 1, 1)),  # the same passage twice is one citation
        (["ab", "ab", "x"], (1, 1, 1 / 2)),
    ],
)
def test_recall_and_precision_are_those_worked_out_by_hand(citations, expected):
    assert scores(citations, needs("a", "b")) == pytest.approx(expected)


def test_where_all_together_do_not_support_no_citation_is_precise_as_in_alce():
    distracted = lambda claims: [float(claim.passages == ("a",)) for claim in claims]  # noqa: E731
    assert scores(["a", "b"], distracted) == (1, 0, 0)


def test_scores_equal_those_of_alces_own_loop():
    """Its eval.py, condition A and condition B, written out again for sets that were drawn at random."""
    rng = np.random.default_rng(0)
    verdicts = {}

    def supports(claims):
        for claim in claims:
            verdicts.setdefault(claim.passages, float(rng.random()))
        return [verdicts[claim.passages] for claim in claims]

    def verdict(passages):
        return supports([Claim("Where?", "Paris", tuple(passages))])[0] > 0.5

    rows = [("Paris", [f"{row}{place}" for place in range(rng.integers(1, 5))]) for row in range(200)]
    found = score_citations(table(*rows), supports)
    for (_, citations), row in zip(rows, found.itertuples(), strict=True):
        recall = verdict(citations)
        precise = 0
        if recall and len(citations) > 1:
            for text in citations:
                others = [other for other in citations if other != text]
                precise += verdict([text]) or not verdict(others)
        elif recall:
            precise = 1
        assert (row.citation_recall, row.citation_precision) == (recall, precise / len(citations))


def test_an_empty_answer_claims_nothing_and_has_no_score():
    supports = lambda claims: pytest.fail("asked about nothing")  # noqa: E731
    found = score_citations(table(("", ["a"]), (None, []), (" ", ["a"]), (float("nan"), ["a"])), supports)
    assert found[["support", "supported", "citation_recall", "citation_precision"]].isna().all(axis=None)
    assert found["citations"].tolist() == [1, 0, 1, 1]


def test_support_is_compared_with_the_threshold_and_equal_is_not_enough():
    half = lambda claims: np.full(len(claims), 0.5)  # noqa: E731
    assert score_citations(table(("Paris", ["a"])), half)["citation_recall"].tolist() == [0.0]
    assert score_citations(table(("Paris", ["a"])), half, threshold=0.4)["citation_recall"].tolist() == [1.0]
    assert score_citations(table(("Paris", ["a"])), half)["support"].tolist() == [0.5]


def test_no_set_is_asked_about_twice_and_one_that_decides_nothing_is_not_asked_about():
    asked = []

    def supports(claims):
        asked.extend(claim.passages for claim in claims)
        return needs("a", "b")(claims)

    citations = [["ab", "x"], ["ab"], ["x", "y", "z"], ["ab", "x"]]
    rows = table(*(("Paris", cited) for cited in citations))
    score_citations(rows, supports)
    assert sorted(asked) == sorted([("ab", "x"), ("ab",), ("x",), ("x", "y", "z"), ("y",), ("z",)])


def test_references_of_parquet_are_arrays_and_long_texts_are_cut(tmp_path):
    table(("Paris" * 10_000, ["ab", "x"])).to_parquet(tmp_path / "rows.parquet")
    seen = []
    supports = lambda claims: [seen.extend(claims) or 1.0 for claim in claims]  # noqa: E731
    score_citations(pd.read_parquet(tmp_path / "rows.parquet"), supports)
    assert {len(claim.answer) for claim in seen} == {4000} and seen[0].passages == ("ab", "x")


@pytest.mark.parametrize("values", [[float("nan")], [1.5], [-0.1], [], [0.5, 0.5], [[0.5, 0.5]]])
def test_what_is_no_support_is_refused(values):
    with pytest.raises(ValueError, match="a number from 0 to 1 for each of 1 claims"):
        score_citations(table(("Paris", ["a"])), lambda claims: values)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (table(("Paris", ["a"])).drop(columns="citations"), "lacks column 'citations'"),
        (pd.concat([table(("Paris", ["a"]))] * 2), "More than one cited answer for query 'q0'"),
    ],
)
def test_tables_that_cannot_be_scored_are_refused(rows, match):
    with pytest.raises(ValueError, match=match):
        score_citations(rows, needs("a"))
