"""How many dev questions are answered, and with which prior."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from reading_examples import RMTREE, SQRT, example

from ragsmith.evaluate.answers import score_answers
from ragsmith.read.dev_answers import exact_share, prior_entropy, tune_prior
from ragsmith.read.reading import ReadingPassage, Span


@pytest.mark.parametrize(
    ("found", "accepted", "right"),
    [
        (" Shutil.RMTREE\n", ["os.remove", "shutil.rmtree"], True),
        ("the GIL", ["GIL"], True),
        ("Paris.", ["Paris"], True),
        ("10,000", ["10000"], True),
        ("rmtree", ["shutil.rmtree"], False),
        ("", ["shutil.rmtree"], False),
        ("**", ["**"], True),
        ("*", ["**"], False),
    ],
)
def test_dev_answers_are_right_where_the_report_says_so(found, accepted, right):
    span = Span(found, "p1", 0, len(found), 0.5)
    assert exact_share([span], [example(RMTREE, answers=accepted)]) == right
    table = score_answers(
        pd.DataFrame({"query_id": ["q"], "answer": [found]}), pd.DataFrame({"query_id": ["q"], "answers": [accepted]})
    )
    assert table["em"].tolist() == [right]


def test_entropy_of_the_prior_is_one_where_all_score_alike_and_zero_where_one_has_all():
    assert prior_entropy([[0.5, 0.5, 0.5], [0.1, 0.1]], 0.05) == pytest.approx(1)
    assert prior_entropy([[1.0, -1.0, -1.0]], 0.01) == pytest.approx(0)
    weights = torch.tensor([0.7, 0.6, 0.4], dtype=torch.float64).div(0.05).softmax(0)
    expected = float(torch.distributions.Categorical(weights).entropy() / torch.tensor(3.0).log())
    assert prior_entropy([[0.7, 0.6, 0.4], [0.9]], 0.05) == pytest.approx(expected)
    assert prior_entropy([[0.9]], 0.05) == 0


def test_missing_answer_counts_as_wrong():
    spans = [Span("shutil.rmtree", "p1", 0, 13, 0.5), None, Span("path", "p1", 14, 18, 0.5)]
    assert exact_share(spans, [example(RMTREE)] * 3) == pytest.approx(1 / 3)


def test_prior_weight_with_the_highest_dev_score_is_taken_the_first_of_equals(reader):
    # An untrained reader prefers some passage; only a large weight makes it read the right one.
    one = [RMTREE, SQRT]
    answers = {p.passage_id: reader.answer("delete a tree", [p]).text for p in one}
    preferred = reader.answer("delete a tree", [ReadingPassage(p.passage_id, p.text, 0.0) for p in one]).passage_id
    wanted = next(p for p in one if p.passage_id != preferred)
    scored = [ReadingPassage(p.passage_id, p.text, float(p is wanted)) for p in one]
    dev = [example(*scored, answers=[answers[wanted.passage_id]])]
    weight, table = tune_prior(reader, dev, [0.0, 50.0, 100.0])
    assert weight == 50.0 and [row["em"] for row in table] == [0.0, 1.0, 1.0]
    assert tune_prior(reader, dev, [100.0, 50.0])[0] == 100.0 and reader.settings.prior_weight == 0.0


@pytest.mark.parametrize("candidates", [1, 20])
def test_score_of_each_prior_weight_is_that_of_reading_with_it(reader, candidates):
    reader = reader.with_settings(replace(reader.settings, candidates=candidates))
    generator = torch.Generator().manual_seed(1)
    words = "red green blue tree path root order".split()
    dev = []
    for number in range(12):
        places = torch.randint(len(words), (4, 5), generator=generator).tolist()
        texts = [" ".join(words[place] for place in row) for row in places]
        scores = torch.rand(4, generator=generator).tolist()
        passages = [ReadingPassage(str(n), *both) for n, both in enumerate(zip(texts, scores, strict=True))]
        # Half of the answers stand in the passage that the prior favours.
        favoured = max(passages, key=lambda passage: passage.score) if number % 2 else passages[number % 4]
        answer = reader.answer(f"question {number}", [favoured]).text
        dev.append(example(*passages, answers=[answer], question=f"question {number}"))
    dev += [example(question="nothing found"), example(ReadingPassage("p", " ", 0.5))]
    weight, table = tune_prior(reader, dev, [0.0, 0.2, 50.0])
    for row in table:
        read = reader.with_settings(replace(reader.settings, prior_weight=row["prior_weight"]))
        spans = read.answer_all([e.question for e in dev], [e.passages for e in dev])
        assert row["em"] == exact_share(spans, dev)
    assert len({row["em"] for row in table}) > 1
    assert weight == max(table, key=lambda row: row["em"])["prior_weight"]


def test_best_span_of_each_passage_is_that_of_reading_it_alone(reader):
    passages = [RMTREE, SQRT, ReadingPassage("p", " ", 0.0)]
    reader = reader.with_settings(replace(reader.settings, prior_weight=5.0, candidates=9))
    plain = reader.with_settings(replace(reader.settings, candidates=1))
    (read,) = reader.each_logits(["delete?"], [passages])
    found = reader.passage_spans(read)
    for (span, _), passage in zip(found[:2], passages, strict=False):
        alone = plain.answer("delete?", [passage])
        assert replace(span, score=0.0) == replace(alone, score=0.0)
        assert span.score == pytest.approx(alone.score, rel=1e-4)
    assert found[2] == (None, -torch.inf)
    start, end = read.start[0], read.end[0]
    pairs = [(first, last) for first in range(len(start)) for last in range(first, min(len(start), first + 6))]
    assert found[0][1] == pytest.approx(max(float(start[first] + end[last]) for first, last in pairs), abs=1e-5)
