import json

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.posterior_figures import posterior_figure, token_posterior_figure

POSTERIORS = pd.DataFrame(
    [
        ("a", 1, "p1", 0.7, 0.2), ("a", 2, "p2", 0.3, 0.8),
        ("b", 1, "p3", 0.5, 0.9), ("b", 2, "p1", 0.3, 0.1), ("b", 3, "p2", 0.2, 0.0),
    ],
    columns=["query_id", "rank", "passage_id", "prior", "posterior"],
)  # fmt: skip
QUERIES = pd.DataFrame({"query_id": ["b", "a"], "text": ["Same?", "Same?"]})


def drawn(figure):
    return json.loads(figure.to_json())


def test_a_row_is_a_question_and_a_column_a_rank():
    figure = drawn(posterior_figure(POSTERIORS.iloc[::-1], QUERIES))
    (trace,) = figure["data"]
    assert trace["z"] == [[0.9, 0.1, 0.0], [0.2, 0.8, None]]
    assert figure["layout"]["xaxis"]["ticktext"] == ["1", "2", "3"]
    assert figure["layout"]["yaxis"]["ticktext"] == ["Same?", "Same?"]  # two rows all the same
    assert trace["text"][1][1] == "Same?<br>rank 2, passage p2<br>prior 0.300, posterior 0.800"
    assert figure["layout"]["title"]["text"] and figure["layout"]["xaxis"]["title"]["text"]


def test_of_many_questions_evenly_spread_ones_are_shown():
    many = pd.concat([POSTERIORS.iloc[:2].assign(query_id=f"q{n}") for n in range(1000)])
    queries = pd.DataFrame(
        {"query_id": [f"q{n}" for n in range(1000)], "text": [f"question {n}" for n in range(1000)]}
    )
    shown = drawn(posterior_figure(many, queries))["layout"]["yaxis"]["ticktext"]
    assert len(shown) == 40 and shown[0] == "question 0" and shown[-1] == "question 999"


def test_nothing_from_the_data_is_markup():
    nasty = "<script>alert(1)</script>\u202e\x00" + "x" * 100_000
    posteriors = POSTERIORS.assign(passage_id=nasty)
    figures = [
        posterior_figure(posteriors, QUERIES.assign(text=nasty)),
        token_posterior_figure([nasty, "b"], [nasty], [[0.5], [0.1]]),
    ]
    for figure in figures:
        shown = json.dumps(drawn(figure)["data"]) + json.dumps(drawn(figure)["layout"]["yaxis"])
        assert "<script" not in shown and "\\u202e" not in shown and "\\u0000" not in shown and len(shown) < 10_000


def test_unknown_questions_have_an_empty_name():
    shown = drawn(posterior_figure(POSTERIORS, QUERIES.iloc[:1]))["layout"]["yaxis"]["ticktext"]
    assert shown == ["", "Same?"]


def test_tokens_are_rows_and_passages_columns():
    figure = drawn(token_posterior_figure(["the", " ", "the"], ["p1", "p2"], [[0.1, 0.9], [0.5, np.nan], [1, 0]]))
    (trace,) = figure["data"]
    assert trace["z"] == [[0.1, 0.9], [0.5, None], [1.0, 0.0]]
    assert figure["layout"]["yaxis"]["ticktext"] == ["the", "␣", "the"]
    assert figure["layout"]["xaxis"]["ticktext"] == ["p1", "p2"]
    assert trace["text"][0][1] == "token the<br>passage p2<br>posterior 0.900"


def test_nothing_to_show_gives_an_empty_figure_that_says_why():
    for figure in (posterior_figure(POSTERIORS.iloc[:0], QUERIES), token_posterior_figure([], ["p"], [])):
        assert not figure.data and len(figure.layout.annotations[0].text) > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="prior"), "lacks column 'prior'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"repeat \(query_id, rank\) \('a', 1\)"),
        (lambda t: t.assign(rank=t["rank"] - 1), "rank below 1"),
        (lambda t: t.assign(posterior=1.2), "outside of 0 to 1, for query 'a', 'b'"),
        (lambda t: t.assign(prior=np.nan), "missing or outside"),
    ],
)
def test_faulty_posteriors_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        posterior_figure(change(POSTERIORS), QUERIES)


@pytest.mark.parametrize(
    ("weights", "message"), [([[0.1, 0.2]], r"got shape \(1, 2\)"), ([[0.1], [-2.0]], "shares, not logits")]
)
def test_faulty_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        token_posterior_figure(["a", "b"], ["p"], weights)
