"""The loss of marked spans, and how likely they are after each passage."""

import math
from dataclasses import replace

import pytest
import torch
from reading_examples import RMTREE, SQRT, example

from ragsmith.read.objectives import log_prior
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.span_evidence import span_evidence


@pytest.fixture(autouse=True)
def no_dropout(reader):
    reader.model.eval()


def evidence(reader, *examples, scores=None):
    """With the passages all alike, or with these scores."""
    counts = [len(one.passages) for one in examples]
    present = torch.tensor([[place < count for place in range(max(counts))] for count in counts])
    given = torch.zeros(present.shape) if scores is None else torch.tensor(scores)
    return span_evidence(reader, examples, log_prior(given, present))


def spans(reader, passage, question="delete a tree"):
    """Score of every span of a passage, by its text, in double precision; of equal texts a list."""
    pair = reader.encode(question, passage.text)
    start, end = (logits[0].detach().double() for logits in reader.logits([pair]))
    inside = [token for token, offset in enumerate(pair.offsets) if offset is not None]
    found = {}
    for first in inside:
        for last in inside:
            if first <= last < first + reader.settings.max_answer_tokens:
                text = passage.text[pair.offsets[first][0] : pair.offsets[last][1]]
                found.setdefault(text, []).append(math.exp(start[first] + end[last]))
    return found


def test_loss_is_the_share_of_the_right_span_among_the_spans_of_all_passages(reader):
    found, readable = evidence(reader, example(SQRT, RMTREE))
    every = [score for passage in (SQRT, RMTREE) for some in spans(reader, passage).values() for score in some]
    (right,) = spans(reader, RMTREE)["shutil.rmtree"]
    assert found.nll.item() == pytest.approx(-math.log(right / sum(every)), abs=1e-5) and readable.tolist() == [True]


def test_prior_weighs_all_spans_of_a_passage(reader):
    found, _ = evidence(reader, example(SQRT, RMTREE), scores=[[2.0, 0.5]])
    of_sqrt, of_rmtree = (sum(map(sum, spans(reader, passage).values())) for passage in (SQRT, RMTREE))
    (right,) = spans(reader, RMTREE)["shutil.rmtree"]
    share = math.exp(0.5) * right / (math.exp(2.0) * of_sqrt + math.exp(0.5) * of_rmtree)
    assert found.nll.item() == pytest.approx(-math.log(share), abs=1e-5)
    assert found.log_likelihood[0, 1].item() == pytest.approx(math.log(right / of_rmtree), abs=1e-5)
    assert found.log_likelihood[0, 0] < -1e8


def test_right_spans_add_up_and_not_starts_of_one_with_ends_of_another(reader):
    passage = ReadingPassage("p1", "one two three four five", 0.0)
    found, _ = evidence(reader, example(passage, answers=["one two", "four five", "four"]))
    scores = spans(reader, passage)
    right = sum(scores[text][0] for text in ("one two", "four five", "four"))
    assert found.nll.item() == pytest.approx(-math.log(right / sum(map(sum, scores.values()))), abs=1e-5)


def test_answer_that_stands_there_twice_in_the_list_counts_once(reader):
    once, twice = (evidence(reader, example(RMTREE, answers=["shutil.rmtree"] * count))[0].nll for count in (1, 2))
    assert torch.equal(once, twice) and once.item() > 0


def test_question_without_a_right_span_has_no_loss_and_no_gradient(reader):
    found, readable = evidence(reader, example(RMTREE, answers=["absent"]))
    found.nll.sum().backward()
    assert found.nll.item() == 0 and readable.tolist() == [False]
    assert all(p.grad is None or not p.grad.any() for p in reader.model.parameters())


def test_fewer_passages_than_others_have_take_no_share(reader):
    together, readable = evidence(reader, example(SQRT, RMTREE), example(RMTREE, question="which tree?"))
    alone, _ = evidence(reader, example(RMTREE, question="which tree?"))
    assert together.nll[1].item() == pytest.approx(alone.nll.item(), abs=1e-5) and readable.tolist() == [True, True]


@pytest.mark.parametrize(
    ("text", "answers", "right"),
    [
        ("A Parisian in Rome. Paris.", ["Paris"], ["Paris"]),
        ("A Parisian in Rome.", ["Paris"], []),
        ("I know no answer.", ["no"], []),  # a judgement stands everywhere
    ],
)
def test_where_nobody_judged_passages_are_right_that_hold_an_answer_as_words_of_its_own(reader, text, answers, right):
    guessed = example(SQRT, ReadingPassage("p9", text, 0.0), answers=answers, right=())
    found, readable = evidence(reader, guessed)
    assert readable.tolist() == [bool(right)]
    if right:
        every = [score for one in guessed.passages for some in spans(reader, one).values() for score in some]
        share = spans(reader, guessed.passages[1])["Paris"][-1] / sum(every)
        assert found.nll.item() == pytest.approx(-math.log(share), abs=1e-5)


def test_answer_longer_than_any_span_may_be_is_not_right(reader):
    passage = ReadingPassage("p1", "one two three four five six seven eight", 0.0)
    assert evidence(reader, example(passage, answers=[passage.text]))[1].tolist() == [False]
    assert evidence(reader, example(passage, answers=[passage.text, "two three"]))[1].tolist() == [True]


def test_longest_answer_beyond_the_passage_leaves_loss_and_likelihood_as_with_its_length(reader):
    asked = example(RMTREE, SQRT, answers=(RMTREE.text,))
    endless, whole = (
        evidence(reader.with_settings(replace(reader.settings, max_answer_tokens=longest)), asked)
        for longest in (10**6, reader.settings.max_tokens)
    )
    assert whole[1].tolist() == [True] and math.isfinite(whole[0].nll.item()) and whole[0].nll.item() > 0
    assert torch.equal(endless[0].nll, whole[0].nll)
    assert torch.equal(endless[0].log_likelihood, whole[0].log_likelihood)
