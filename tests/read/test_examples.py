import pandas as pd
import pytest
from reading_examples import RMTREE, SQRT, example

from ragsmith.read.examples import ReadingExample, answer_place, retrieved_passages, right_tokens
from ragsmith.read.extractive import EncodedPair
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.has_answer import has_answer

QUERIES = pd.DataFrame({"query_id": ["b", "a", "none"], "text": ["root?", "delete?", "what?"]})
RUN = pd.DataFrame(
    [
        ("a", "p3", 2, 0.5, 7.5),
        ("a", "p1", 1, 0.75, 9.0),
        ("b", "p3", 1, 0.25, 2.0),
        ("b", "p1", 2, 0.125, 1.0),
        ("a", "p2", 3, 0.0, 0.5),
    ],
    columns=["query_id", "passage_id", "rank", "cosine", "score"],
)


def test_first_passages_by_rank_come_in_the_order_of_the_queries(passages):
    found = retrieved_passages(QUERIES, RUN, passages, 2)
    assert [[(p.passage_id, p.score) for p in some] for some in found] == [
        [("p3", 0.25), ("p1", 0.125)],
        [("p1", 0.75), ("p3", 0.5)],
        [],
    ]
    scored = retrieved_passages(QUERIES, RUN, passages, 1, "score")
    assert [[(p.passage_id, p.score) for p in some] for some in scored] == [[("p3", 2.0)], [("p1", 9.0)], []]


def test_passage_reads_as_the_retriever_saw_it(passages):
    found = retrieved_passages(QUERIES, RUN, passages, 2)
    assert found[0][0].text == "json\nMiddle of a section."
    assert found[1][0].text.startswith("shutil.rmtree(path)\n\nDelete")


# --- right tokens ---


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
    assert answer_place("abcd", "bc", pair) == (1, 3)
    assert right_tokens(example(ReadingPassage("p1", "abcd", 0.0), answers=["bc"]), [pair]) == ([(0, 0)], [(0, 1)])


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("Born in PARIS, France", "paris", "PARIS"),
        ("the U. S. Army", "u.s. army", "U. S. Army"),
        ("New\n York", "new york", "New\n York"),
        ("paris, not Paris", "Paris", "Paris"),  # as it is written, if it is there
        ("Thus the us", "US", "us"),
        ("Thus said", "US", ""),
        ("aXa aXaXa", "axaxa", "aXaXa"),
    ],
)
def test_answer_is_found_in_other_letters_and_with_other_spaces_as_has_answer_finds_it(text, answer, expected):
    begin, end = answer_place(text, answer, EncodedPair([], [], []))
    assert text[begin:end] == expected and bool(expected) == has_answer(text, [answer])


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
