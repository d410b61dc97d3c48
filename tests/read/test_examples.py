import pandas as pd
import pytest

from ragsmith.read.examples import ReadingExample, answer_place, reading_examples, right_tokens
from ragsmith.read.extractive import EncodedPair
from ragsmith.read.reading import ReadingPassage

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


# --- right tokens ---

RMTREE = ReadingPassage("p1", "shutil.rmtree(path)\n\nDelete a tree.", 0.9)
SQRT = ReadingPassage("p2", "math.sqrt(x)\n\nThe square root.", 0.2)


def example(*passages, answers=("shutil.rmtree",), right=("p1",), question="delete a tree"):
    return ReadingExample(question, tuple(passages), tuple(answers), frozenset(right))


def marked(reader, example):
    """The texts that begin and end at the marked tokens."""
    pairs = [reader.encode(example.question, passage.text) for passage in example.passages]
    starts, ends = right_tokens(example, pairs)
    return [
        example.passages[row].text[pairs[row].offsets[first][0] : pairs[row].offsets[last][1]]
        for (row, first), (_, last) in zip(starts, ends, strict=True)
    ]


def test_marked_tokens_spell_the_answer(reader):
    assert marked(reader, example(SQRT, RMTREE)) == ["shutil.rmtree"]


def test_every_accepted_answer_is_marked_in_every_right_passage(reader):
    both = example(RMTREE, ReadingPassage("p3", "See shutil.rmtree here.", 0.0), answers=("shutil.rmtree", "rmtree"))
    assert marked(reader, both) == ["shutil.rmtree", "rmtree"]
    both = ReadingExample(both.question, both.passages, both.answers, frozenset({"p1", "p3"}))
    assert marked(reader, both) == ["shutil.rmtree", "rmtree"] * 2


def test_answer_in_a_passage_that_is_not_right_is_not_marked(reader):
    assert marked(reader, example(RMTREE, right=["p2"])) == []


def test_answer_inside_another_word_is_passed_by_for_the_one_that_stands_alone(reader):
    passage = ReadingPassage("p1", "Please close the file with os here.", 0.0)
    assert marked(reader, example(passage, answers=["os"])) == ["os"]


def test_answer_that_no_tokens_spell_is_marked_at_its_first_place():
    # tokens "ab", "cd": neither begins or ends with "bc"
    pair = EncodedPair([1, 2], [1, 1], [(0, 2), (2, 4)])
    assert answer_place("abcd", "bc", pair) == 1
    assert right_tokens(example(ReadingPassage("p1", "abcd", 0.0), answers=["bc"]), [pair]) == ([(0, 0)], [(0, 1)])


def test_answer_beyond_what_is_read_is_not_marked(reader):
    passage = ReadingPassage("p1", "word " * 100 + "shutil.rmtree", 0.0)
    assert marked(reader, example(passage)) == []
    across = ReadingPassage("p1", "word " * 37 + "shutil.rmtree", 0.0)  # begins within the 48 tokens and ends outside
    assert marked(reader, example(across)) == []


@pytest.mark.parametrize("answers", [[""], ["absent"], []])
def test_answer_that_is_not_there_is_not_marked(reader, answers):
    assert marked(reader, example(RMTREE, answers=answers)) == []


def test_marks_are_trained_on_in_the_place_of_the_first_occurrence(reader):
    text = "path is a path of paths"
    one = example(ReadingPassage("p1", text, 0.0), SQRT, answers=["path"])
    assert right_tokens(one, [reader.encode("q", p.text) for p in one.passages])[0] == [(0, 3)]  # [CLS] q [SEP] path
    there = ReadingExample(one.question, one.passages, one.answers, one.right, (("p1", 10, 14), ("p2", 0, 4)))
    pairs = [reader.encode("q", p.text) for p in there.passages]
    starts, ends = right_tokens(there, pairs)
    assert starts == ends and len(starts) == 1  # p2 is not right
    assert pairs[0].offsets[starts[0][1]] == (10, 14)
