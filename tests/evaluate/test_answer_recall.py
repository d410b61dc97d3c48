"""The first passage that holds an answer, against a loop over all of them."""

import numpy as np
import pandas as pd
import pytest

from ragsmith.evaluate.answer_recall import answer_recall, first_answer_ranks
from ragsmith.retrieve.has_answer import has_answer


def make_run(ranking: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(q, p, -float(rank), rank) for q, found in ranking.items() for rank, p in enumerate(found, start=1)]
    return pd.DataFrame(rows, columns=["query_id", "passage_id", "score", "rank"])


def make_answers(answers: dict[str, list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": list(answers), "answers": list(answers.values())})


def make_passages(texts: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"passage_id": list(texts), "text": list(texts.values())})


def test_the_first_passage_with_an_answer_decides():
    passages = make_passages({"x": "nothing here", "y": "The answer is 42.", "z": "42 again"})
    run = make_run({"late": ["x", "y", "z"], "never": ["x"], "first": ["z", "x"]})
    answers = make_answers({"first": ["42"], "late": ["43", "42"], "never": ["42"], "unread": ["42"]})
    ranks = first_answer_ranks(run.iloc[::-1], passages, answers)
    assert ranks["query_id"].tolist() == ["first", "late", "never", "unread"]
    assert ranks["rank"].astype(object).where(ranks["rank"].notna(), None).tolist() == [1, 2, None, None]
    recall = answer_recall(run, passages, answers, [1, 2, 3])
    assert recall.index.tolist() == ["first", "late", "never", "unread"]
    assert recall.to_numpy().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert list(recall.columns) == ["answer_recall@1", "answer_recall@2", "answer_recall@3"]


def test_recall_on_random_data_equals_the_slow_loop():
    rng = np.random.default_rng(8)
    words = ["one", "two", "three", "four", "five", "six", "Seven", "eight!"]
    texts = {f"p{n}": " ".join(rng.choice(words, rng.integers(0, 6))) for n in range(40)}
    ranking = {f"q{n}": list(rng.permutation(list(texts))[: rng.integers(1, 9)]) for n in range(50)}
    sought = {q: [" ".join(rng.choice(words, rng.integers(1, 3))) for _ in range(2)] for q in ranking}
    recall = answer_recall(make_run(ranking), make_passages(texts), make_answers(sought), [1, 4])
    for query_id, found in ranking.items():
        hits = [has_answer(texts[passage], sought[query_id]) for passage in found]
        assert recall.loc[query_id].tolist() == [float(any(hits[:1])), float(any(hits[:4]))]
    assert 0 < recall.to_numpy().mean() < 1


def test_answers_of_several_rows_and_of_parquet_add_up(tmp_path):
    pd.DataFrame({"query_id": ["q", "q"], "answers": [["one"], ["two"]]}).to_parquet(tmp_path / "answers.parquet")
    loaded = pd.read_parquet(tmp_path / "answers.parquet")
    assert answer_recall(make_run({"q": ["p"]}), make_passages({"p": "two"}), loaded, [1]).to_numpy() == 1


@pytest.mark.parametrize(
    ("ranking", "texts", "answers", "message"),
    [
        ({"q": ["p", "ghost"]}, {"p": "x"}, {"q": ["x"]}, "passages table lacks: 'ghost'"),
        ({"q": ["p"], "other": ["p"]}, {"p": "x"}, {"q": ["x"]}, "answers lack: 'other'"),
        ({"q": ["p"]}, {"p": "x"}, {"q": [" \t"]}, "no answer that has a token for query 'q'"),
        ({"q": ["p"]}, {"p": "x"}, {"q": None}, "no answer that has a token for query 'q'"),
        ({"q": ["p", "p"]}, {"p": "x"}, {"q": ["x"]}, "run repeats"),
        ({}, {"p": "x"}, {"q": ["x"]}, "run is empty"),
        ({"q": ["p"]}, {"p": "x"}, {}, "answers table is empty"),
    ],
)
def test_faulty_tables_are_refused(ranking, texts, answers, message):
    with pytest.raises(ValueError, match=message):
        first_answer_ranks(make_run(ranking), make_passages(texts), make_answers(answers))


def test_passages_that_stand_twice_and_depths_below_one_are_refused():
    passages = pd.concat([make_passages({"p": "x"})] * 2)
    with pytest.raises(ValueError, match="passages repeat passage_id 'p'"):
        first_answer_ranks(make_run({"q": ["p"]}), passages, make_answers({"q": ["x"]}))
    with pytest.raises(ValueError, match="k at least 1; got 0"):
        answer_recall(make_run({"q": ["p"]}), passages.iloc[:1], make_answers({"q": ["x"]}), [0, 1])
