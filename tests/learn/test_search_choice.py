import pandas as pd
import pytest

from ragsmith.evaluate.retrieval import score_run
from ragsmith.learn.search_choice import best_mode
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.search import Searcher

QUESTIONS = pd.DataFrame({"query_id": ["a", "b", "unjudged"], "text": ["whole", "object", "what"]})


def judged(**right):
    return pd.DataFrame(list(right.items()), columns=["query_id", "passage_id"]).assign(grade=1)


@pytest.fixture
def index(tiny_model, machine, passages, tmp_path):
    return build_index(tiny_model, passages, machine, 512, tmp_path, "")


def test_scores_are_those_of_the_evaluation_and_the_better_one_is_chosen(tiny_model, machine, index, passages):
    qrels = judged(a="p1", b="p3")
    choice = best_mode(tiny_model, index, QUESTIONS, qrels, passages)
    searcher = Searcher(Encoder.load(tiny_model, machine), DenseIndex.load(index), passages)
    for mode, score in choice["ndcg@10"].items():
        run = searcher.run(["a", "b"], ["whole", "object"], 10, mode)
        assert score == pytest.approx(score_run(run, qrels, ["ndcg@10"])["value"].mean(), abs=1e-6)
    # An untrained model ranks by chance, here badly; the words of these questions stand in their passages.
    assert choice["mode"] == "hybrid" and choice["ndcg@10"]["hybrid"] > choice["ndcg@10"]["dense"]


def test_dense_search_is_chosen_at_a_tie(tiny_model, index, passages):
    # No passage has a word of the question, so both ways find the same.
    questions = pd.DataFrame({"query_id": ["a"], "text": ["zzz"]})
    choice = best_mode(tiny_model, index, questions, judged(a="p2"), passages)
    assert choice["mode"] == "dense" and choice["ndcg@10"]["dense"] == choice["ndcg@10"]["hybrid"]


def test_without_judged_question_there_is_no_choice(tiny_model, index, passages):
    with pytest.raises(ValueError, match="at least one query"):
        best_mode(tiny_model, index, QUESTIONS, judged(other="p2"), passages)
