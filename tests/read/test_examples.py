import pandas as pd
import pytest

from ragsmith.read.examples import reading_examples, with_right_passage, without_unjudged
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.training import ReadingExample

QUERIES = pd.DataFrame({"query_id": ["b", "a", "none"], "text": ["root?", "delete?", "what?"]})
QRELS = pd.DataFrame([("a", "p1", 2), ("a", "p3", 0), ("b", "p2", 1)], columns=["query_id", "passage_id", "grade"])
ANSWERS = pd.DataFrame({"query_id": ["a", "b", "none"], "answers": [["shutil.rmtree"], ["math.sqrt", "sqrt"], ["x"]]})
RUN = pd.DataFrame(
    [("a", "p3", 2, 0.5), ("a", "p1", 1, 0.75), ("b", "p3", 1, 0.25), ("b", "p1", 2, 0.125), ("a", "p2", 3, 0.0)],
    columns=["query_id", "passage_id", "rank", "cosine"],
)


@pytest.fixture
def examples(passages):
    return reading_examples(QUERIES, RUN, passages, QRELS, ANSWERS, 2)


def test_examples_are_in_the_order_of_the_queries_with_the_first_passages_by_rank(examples):
    assert [e.question for e in examples] == ["root?", "delete?", "what?"]
    assert [[(p.passage_id, p.score) for p in e.passages] for e in examples] == [
        [("p3", 0.25), ("p1", 0.125)],
        [("p1", 0.75), ("p3", 0.5)],
        [],
    ]


def test_example_has_its_answers_and_only_passages_of_a_grade_above_zero_are_right(examples):
    assert examples[0].answers == ("math.sqrt", "sqrt")
    assert [e.right for e in examples] == [{"p2"}, {"p1"}, set()]


def test_passage_reads_as_the_retriever_saw_it(examples):
    assert examples[0].passages[0].text == "json\nMiddle of a section."
    assert examples[1].passages[0].text.startswith("shutil.rmtree(path)\n\nDelete")


def test_question_without_accepted_answer_is_named(passages):
    with pytest.raises(ValueError, match="1 questions have no accepted answer, such as a"):
        reading_examples(QUERIES, RUN, passages, QRELS, ANSWERS[1:], 2)


def sources(cut):
    return [("p2", *cut), ("p1", *cut), ("p3", *cut)]


def test_right_passage_takes_the_last_place_when_it_was_not_found(examples, passages):
    root, delete, nothing = with_right_passage(examples, sources((0, 0)), passages, 0.5, 0)
    assert {(p.passage_id, p.score) for p in root.passages} == {("p3", 0.25), ("p2", 0.25)}
    assert {(p.passage_id, p.score) for p in delete.passages} == {("p1", 0.75), ("p3", 0.5)}
    assert [(p.passage_id, p.score) for p in nothing.passages] == [("p3", 0.0)]


def test_source_counts_as_right(examples, passages):
    changed = with_right_passage(examples, sources((0, 0)), passages, 0.5, 0)
    assert [e.right for e in changed] == [{"p2"}, {"p1"}, {"p3"}]


def test_place_of_the_right_passage_tells_nothing(examples, passages):
    places = [
        [p.passage_id for p in with_right_passage(examples, sources((0, 0)), passages, 0.5, seed)[0].passages].index(
            "p2"
        )
        for seed in range(40)
    ]
    assert 10 < sum(places) < 30


def test_source_stretch_is_left_out_as_often_as_asked(examples, passages):
    start = len("shutil.rmtree(path)\n\n")
    cut = (start, start + len("Delete an entire directory tree."))

    def texts(probability):
        return [
            next(
                p.text
                for p in with_right_passage(examples, sources(cut), passages, probability, seed)[1].passages
                if p.passage_id == "p1"
            )
            for seed in range(60)
        ]

    whole, left = passages["text"][0], "shutil.rmtree(path)\nIt is gone."
    assert set(texts(0.0)) == {whole} and set(texts(1.0)) == {left}
    assert 15 < texts(0.5).count(left) < 45


def test_same_seed_gives_the_same_examples_and_the_old_ones_stay(examples, passages):
    before = list(examples)
    one, other = (with_right_passage(examples, sources((21, 30)), passages, 0.5, 3) for _ in range(2))
    assert one == other and examples == before


def test_where_nobody_judged_every_passage_that_holds_an_answer_is_right_and_none_is_put_in(passages):
    asked = reading_examples(
        pd.DataFrame({"query_id": ["b", "a"], "text": ["?", "?"]}),
        pd.DataFrame(
            [("b", "p2", 1, 0.5), ("b", "p3", 2, 0.25), ("a", "p1", 1, 0.5), ("a", "p2", 2, 0.25)], columns=RUN.columns
        ),
        passages,
        QRELS,
        pd.DataFrame({"query_id": ["b", "a"], "answers": [["the middle", "Section"], ["tree", "root"]]}),
        2,
    )
    # Of the first no passage is known; of the second p1 is a guess, and p2 may answer as well.
    known = [("", 0, 0), ("p1", 0, 0)]
    alone, guessed = with_right_passage(asked, known, passages, 0.5, 0, unjudged={0, 1})
    assert {p.passage_id for p in alone.passages} == {"p2", "p3"} and alone.right == {"p3"}
    assert {p.passage_id for p in guessed.passages} == guessed.right == {"p1", "p2"}
    _, judged = with_right_passage(asked, known, passages, 0.5, 0, unjudged={0})
    assert judged.right == {"p1"}
    places = [with_right_passage(asked, known, passages, 0.5, s, {0})[0].passages[0].passage_id for s in range(40)]
    assert 10 < places.count("p2") < 30


def test_marks_move_with_the_title_above_the_text(passages):
    queries = pd.DataFrame({"query_id": ["q1"], "text": ["?"]})
    run = pd.DataFrame({"query_id": ["q1"], "passage_id": ["p3"], "rank": [1], "score": [7.5], "cosine": [0.5]})
    qrels = pd.DataFrame({"query_id": ["q1"], "passage_id": ["p3"], "grade": [1]})
    answers = pd.DataFrame({"query_id": ["q1"], "answers": [["section"]], "marks": [[("p3", 12, 19)]]})
    (one,) = reading_examples(queries, run, passages, qrels, answers, 3, "score")
    ((passage_id, start, end),) = one.marks
    assert one.passages[0].text[start:end] == "section" and passage_id == "p3" and one.passages[0].score == 7.5
    (without,) = reading_examples(queries, run, passages, qrels, answers[["query_id", "answers"]], 3)
    assert without.marks == () and without.passages[0].score == 0.5


def test_cut_passage_loses_its_marks_and_others_keep_theirs(passages):
    marks = (("p1", 0, 6), ("p2", 0, 4))
    text = passages["text"][0]
    one = ReadingExample("?", (ReadingPassage("p1", text, 0.5),), ("shutil",), frozenset({"p1"}), marks)
    kept, cut = (with_right_passage([one], [("p1", 22, 30)], passages, share, seed=0)[0] for share in (0.0, 1.0))
    assert kept.marks == marks and cut.marks == (("p2", 0, 4),)


def test_passage_that_holds_an_answer_and_was_not_judged_is_left_out():
    shown = [ReadingPassage(f"p{n}", text, 0.0) for n, text in enumerate(["an OS.", "close", "the os", "x", "y", "z"])]
    one = ReadingExample("?", tuple(shown), ("os", "a+b"), frozenset({"p2"}))
    (kept,) = without_unjudged([one], 4)
    assert [passage.passage_id for passage in kept.passages] == ["p1", "p2", "p3", "p4"]  # not p0
    assert (kept.answers, kept.right) == (one.answers, one.right)
