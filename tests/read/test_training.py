from dataclasses import replace

import pytest
import torch

from ragsmith.read.extractive import EncodedPair
from ragsmith.read.reading import ReadingPassage, Span
from ragsmith.read.training import (
    ReaderTask,
    ReadingExample,
    answer_place,
    exact_share,
    right_tokens,
    same_answer,
    tune_prior,
)

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


def task_of(reader, *examples, batch_size=1):
    return ReaderTask(reader, examples, examples, batch_size, 0, "base")


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


def test_loss_is_the_share_of_the_right_start_and_end_over_all_passages(reader):
    one = example(SQRT, RMTREE)
    pairs = [reader.encode(one.question, passage.text) for passage in one.passages]
    reader.model.eval()
    start, end = reader.logits(pairs)
    (first,), (last,) = right_tokens(one, pairs)
    shares = start.flatten().softmax(0).reshape(start.shape)[first], end.flatten().softmax(0).reshape(end.shape)[last]
    expected = -(shares[0].log() + shares[1].log()) / 2
    assert task_of(reader, one).loss(0, 0)[0].item() == pytest.approx(expected.item(), abs=1e-5)


def test_loss_adds_up_right_spans_and_not_starts_of_one_with_ends_of_another(reader):
    text = "one two three four five"
    one = example(ReadingPassage("p1", text, 0.0), answers=["one two", "four five", "four"])
    pairs = [reader.encode(one.question, text)]
    reader.model.eval()
    start, end = (logits[0].double().softmax(0) for logits in reader.logits(pairs))
    place = {text[slice(*o)]: token for token, o in enumerate(pairs[0].offsets) if o}
    spans = [("one", "two"), ("four", "five"), ("four", "four")]
    share = sum(start[place[first]] * end[place[last]] for first, last in spans)
    assert task_of(reader, one).loss(0, 0)[0].item() == pytest.approx(-share.log().item() / 2, abs=1e-5)


def test_marks_are_trained_on_in_the_place_of_the_first_occurrence(reader):
    text = "path is a path of paths"
    one = example(ReadingPassage("p1", text, 0.0), SQRT, answers=["path"])
    assert right_tokens(one, [reader.encode("q", p.text) for p in one.passages])[0] == [(0, 3)]  # [CLS] q [SEP] path
    there = ReadingExample(one.question, one.passages, one.answers, one.right, (("p1", 10, 14), ("p2", 0, 4)))
    pairs = [reader.encode("q", p.text) for p in there.passages]
    starts, ends = right_tokens(there, pairs)
    assert starts == ends and len(starts) == 1  # p2 is not right
    assert pairs[0].offsets[starts[0][1]] == (10, 14)


def test_answer_that_ends_where_another_does_counts_once(reader):
    once, twice = example(RMTREE), example(RMTREE, answers=["shutil.rmtree", "shutil.rmtree"])
    reader.model.eval()
    losses = [task_of(reader, one).loss(0, 0)[0].item() for one in (once, twice)]
    assert losses[0] == losses[1] > 0


def test_batch_without_a_right_span_has_no_loss_and_no_gradient(reader):
    loss, figures = task_of(reader, example(RMTREE, answers=["absent"])).loss(0, 0)
    loss.backward()
    assert loss.item() == 0 and figures == {"right_starts": 0.0}
    assert all(p.grad is None or not p.grad.any() for p in reader.model.parameters())


def test_example_without_passages_is_passed_over(reader):
    task = task_of(reader, example(), example(RMTREE))
    assert task.batches_per_epoch == 1 and torch.isfinite(task.loss(0, 0)[0])


def test_batches_depend_on_seed_and_epoch_and_show_every_example(reader):
    examples = [example(RMTREE, question=f"question {number}") for number in range(6)]
    reader.model.eval()
    losses = [task_of(reader, *examples).loss(epoch, n)[0].item() for epoch in (0, 0, 1) for n in range(6)]
    assert losses[:6] == losses[6:12] != losses[12:]
    assert sorted(losses[:6]) == pytest.approx(sorted(losses[12:]))


def test_identity_changes_with_data_and_settings(reader):
    one, other = task_of(reader, example(RMTREE)), task_of(reader, example(RMTREE))
    assert one.identity() == other.identity()
    changed = [
        task_of(reader, example(SQRT)),
        task_of(reader, example(RMTREE, answers=["rmtree"])),
        ReaderTask(reader, [example(RMTREE)], [example(RMTREE)], 1, 1, "base"),
        ReaderTask(reader, [example(RMTREE)], [example(RMTREE)], 1, 0, "other"),
        ReaderTask(reader, [example(RMTREE)], [example(SQRT)], 1, 0, "base"),
        task_of(reader, replace(example(RMTREE), marks=(("p1", 0, 6),))),
    ]
    assert len({task.identity() for task in [one, *changed]}) == 7


def test_case_and_outer_white_space_make_no_other_answer():
    assert same_answer(" Shutil.RMTREE\n", ["os.remove", "shutil.rmtree"])
    assert not same_answer("rmtree", ["shutil.rmtree"]) and not same_answer("", ["shutil.rmtree"])


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


def test_score_of_each_prior_weight_is_that_of_reading_with_it(reader):
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
