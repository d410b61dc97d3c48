import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForQuestionAnswering

from ragsmith.read.extractive import EncodedPair, ExtractiveReader, ReaderSettings
from ragsmith.read.reading import READER_FILE, ReadingPassage
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import ModelError

QUESTION = "How do I delete a directory?"


def with_settings(reader, **changes):
    return ExtractiveReader(reader.model, reader.tokenizer, replace(reader.settings, **changes), reader.machine)


def slow_best(reader, start, end, pairs, passages):
    """All spans one by one: the passage's number, first and last token of the best, and its share."""
    spans = {}
    for row, pair in enumerate(pairs):
        for first, last in itertools.product(range(len(pair.offsets)), repeat=2):
            inside = pair.offsets[first] is not None and pair.offsets[last] is not None
            if inside and 0 <= last - first < reader.settings.max_answer_tokens:
                score = start[row, first] + end[row, last] + passages[row].score * reader.settings.prior_weight
                spans[row, first, last] = float(score)
    best = max(spans, key=spans.get)
    return best, np.exp(spans[best]) / np.exp(list(spans.values())).sum()


@pytest.mark.parametrize("prior_weight", [0.0, 3.0])
@pytest.mark.parametrize("longest", [1, 3, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_best_span_equals_that_of_trying_every_one(reader, found, prior_weight, longest, seed):
    reader = with_settings(reader, prior_weight=prior_weight, max_answer_tokens=longest)
    pairs = [reader.encode(QUESTION, passage.text) for passage in found]
    outside = ~torch.isfinite(reader.logits(pairs)[0])
    generator = torch.Generator().manual_seed(seed)
    start, end = (torch.randn(outside.shape, generator=generator).masked_fill(outside, -torch.inf) for _ in range(2))
    (row, first, last), share = slow_best(reader, start, end, pairs, found)
    span = reader.best_span(start, end, pairs, found)
    assert span.passage_id == found[row].passage_id
    assert (span.start, span.end) == (pairs[row].offsets[first][0], pairs[row].offsets[last][1])
    assert span.score == pytest.approx(share, rel=1e-5)


def test_answer_is_exactly_the_text_between_its_offsets(reader, found):
    for passage in found:
        span = reader.answer(QUESTION, [passage])
        assert span.text == passage.text[span.start : span.end] != ""


def test_every_token_of_a_passage_stands_where_its_offset_says(reader, found):
    pair = reader.encode(QUESTION, found[0].text)
    places = [(token, found[0].text[slice(*o)]) for token, o in zip(pair.input_ids, pair.offsets, strict=True) if o]
    words = [reader.tokenizer.convert_ids_to_tokens(token).removeprefix("##") for token, _ in places]
    assert words == [text.lower() for _, text in places]
    assert "".join(text for _, text in places) == "".join(found[0].text.split())


def test_logits_are_finite_in_the_passage_and_nowhere_else(reader, found):
    pairs = [reader.encode(QUESTION, passage.text) for passage in found]
    start, end = reader.logits(pairs)
    for row, pair in enumerate(pairs):
        readable = [o is not None for o in pair.offsets] + [False] * (start.shape[1] - len(pair.offsets))
        assert torch.isfinite(start[row]).tolist() == readable == torch.isfinite(end[row]).tolist()


def test_logits_are_those_of_the_model_on_the_tokenizers_own_input(reader, found):
    reader.model.eval()
    features = reader.tokenizer(QUESTION, found[0].text, return_tensors="pt")
    assert set(features["token_type_ids"][0].tolist()) == {0, 1}
    expected = reader.model(**features)
    pair = reader.encode(QUESTION, found[0].text)
    inside = torch.tensor([offset is not None for offset in pair.offsets])
    for ours, theirs in zip(reader.logits([pair]), (expected.start_logits, expected.end_logits), strict=True):
        assert torch.allclose(ours[0][inside], theirs[0][inside], atol=1e-6)


def test_passage_reads_the_same_alone_and_beside_a_longer_one(reader, found):
    pairs = [reader.encode(QUESTION, passage.text) for passage in found]
    together, alone = reader.logits(pairs)[0][2], reader.logits(pairs[2:])[0][0]
    length = len(pairs[2].input_ids)
    assert length < len(together) and torch.allclose(together[:length], alone, atol=1e-5)


def test_scores_of_different_passages_are_shares_of_one_whole(reader, found):
    alone = [reader.answer(QUESTION, [passage]).score for passage in found]
    together = reader.answer(QUESTION, found).score
    assert 0 < together < max(alone) <= 1


def test_large_prior_makes_the_best_retrieved_passage_win(reader, found):
    for passage in found:
        raised = [replace(other, score=1.0 if other is passage else 0.0) for other in found]
        assert with_settings(reader, prior_weight=1000.0).answer(QUESTION, raised).passage_id == passage.passage_id


def test_without_passages_or_without_text_there_is_no_answer(reader):
    assert reader.answer(QUESTION, []) is None
    assert reader.answer(QUESTION, [ReadingPassage("p", "", 0.0)]) is None
    assert reader.answer(QUESTION, [ReadingPassage("p", " \n\t", 0.0)]) is None


def test_end_of_a_long_passage_is_not_read(reader):
    passage = "word " * 200
    pair = reader.encode(QUESTION, passage)
    assert len(pair.input_ids) == 48 and max(o[1] for o in pair.offsets if o) < len(passage) / 2
    assert reader.answer(QUESTION, [ReadingPassage("p", passage, 0.0)]).end < len(passage) / 2


@pytest.mark.parametrize("question", ["word " * 400, "w" * 2000, "🙂" * 700, "unbelievably" * 60])
def test_long_question_is_cut_and_leaves_half_of_the_tokens_to_the_passage(reader, question):
    pair = reader.encode(question, "token " * 100)
    assert len(pair.input_ids) == 48
    assert sum(o is not None for o in pair.offsets) >= 48 // 2 - 3
    assert question.startswith(reader.shortened(question))
    assert reader.answer(question, [ReadingPassage("p", "some text", 0.0)]).text in "some text"


def test_question_that_fits_is_not_cut(reader):
    question = "word " * 19 + "word"  # 99 characters, and 20 of at most 24 tokens
    assert reader.shortened(question) == question


def test_reader_starts_from_the_weights_of_the_encoder(tiny_model, machine, reader):
    theirs = Encoder.load(tiny_model, machine).model.state_dict()
    ours = reader.model.state_dict()
    shared = [name for name in ours if name.startswith("bert.")]
    assert len(shared) > 30
    assert all(torch.equal(ours[name], theirs["0.model." + name.removeprefix("bert.")]) for name in shared)


def test_new_head_is_the_same_whatever_was_drawn_before_and_draws_nothing(tiny_model, machine, reader):
    torch.manual_seed(5)
    other = ExtractiveReader.load(tiny_model, reader.settings, machine)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(reader.model.qa_outputs.weight, other.model.qa_outputs.weight) and drawn == torch.rand(1)


def test_saved_reader_answers_as_before_with_its_own_settings(reader, found, machine, tmp_path):
    with torch.no_grad():
        reader.model.qa_outputs.weight.mul_(30)
    reader = with_settings(reader, prior_weight=2.5)
    reader.save(tmp_path)
    loaded = ExtractiveReader.load(tmp_path, machine=machine)
    assert loaded.settings == reader.settings
    assert loaded.answer(QUESTION, found) == reader.answer(QUESTION, found)
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


def test_truncated_reader_is_refused_by_name(reader, tmp_path):
    reader.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or altered"):
        ExtractiveReader.load(tmp_path)


@pytest.mark.parametrize("lost", ["qa_outputs.weight", "bert.encoder.layer.1.output.dense.weight"])
@pytest.mark.parametrize("saved", [True, False], ids=["reader", "encoder"])
def test_weights_that_are_lost_are_not_drawn_at_random(reader, machine, tmp_path, lost, saved):
    reader.save(tmp_path)
    if not saved:
        (tmp_path / READER_FILE).unlink()
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != lost}, tmp_path / "model.safetensors")
    if lost.startswith("qa_outputs") and not saved:  # a head of its own is what an encoder lacks
        assert ExtractiveReader.load(tmp_path, machine=machine)
        return
    with pytest.raises(ModelError, match=f"lacks 1 weights of its reader, such as {lost}"):
        ExtractiveReader.load(tmp_path, machine=machine)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        '{"model_type": "mine", "auto_map": {"AutoConfig": "code.A", "AutoModelForQuestionAnswering": "code.B"}}',
    ],
    ids=["damaged", "with code of its own"],
)
def test_folder_that_cannot_be_read_or_wants_its_own_code_is_refused_without_a_question(reader, tmp_path, config):
    reader.save(tmp_path)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "code.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ModelError, match="cannot be read as AutoModelForQuestionAnswering"):
        ExtractiveReader.load(tmp_path)


def test_more_tokens_than_the_model_has_places_are_refused(tiny_model, machine):
    with pytest.raises(ModelError, match="reads at most 256 tokens, and max_tokens is 300"):
        ExtractiveReader.load(tiny_model, ReaderSettings(max_tokens=300), machine)


def test_model_without_token_types_reads_too(tiny_model, machine, found, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    torch.manual_seed(0)
    DistilBertForQuestionAnswering(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"model_input_names": ["input_ids", "attention_mask"]}))
    reader = ExtractiveReader.load(tmp_path, ReaderSettings(max_tokens=48), machine)
    span = reader.answer(QUESTION, found)
    assert span.text == next(p.text for p in found if p.passage_id == span.passage_id)[span.start : span.end]


def test_span_never_begins_or_ends_in_the_question(reader):
    pair = EncodedPair([1, 2, 3, 4], [0, 0, 1, 1], [None, None, (0, 2), (3, 5)])
    start = torch.tensor([[9.0, 9.0, 0.0, 1.0]]).masked_fill(torch.tensor([[True, True, False, False]]), -torch.inf)
    span = reader.best_span(start, start, [pair], [ReadingPassage("p", "ab cd", 0.0)])
    assert (span.text, span.start, span.end) == ("cd", 3, 5)


def test_answers_come_in_the_order_of_the_questions(reader, found):
    asked = [QUESTION, "square root?", "nothing"]
    spans = reader.answer_all(asked, [found, found[2:], []])
    assert spans == [reader.answer(QUESTION, found), reader.answer("square root?", found[2:]), None]


def test_first_passages_give_what_they_give_alone(reader, found):
    reader = with_settings(reader, prior_weight=2.0)
    (reading,) = reader.read_all([QUESTION], [found], prefixes=(1, 2, len(found), 50))
    assert reading.answer == reader.answer(QUESTION, found)
    for k, span in reading.of_first.items():
        alone = reader.answer(QUESTION, found[:k])
        assert (span.text, span.passage_id) == (alone.text, alone.passage_id)
        assert span.score == pytest.approx(alone.score, rel=1e-3)


def test_posterior_is_each_passages_share_of_all_spans(reader, found):
    reader = with_settings(reader, prior_weight=2.0, max_answer_tokens=3)
    pairs = [reader.encode(QUESTION, passage.text) for passage in found]
    with torch.inference_mode():
        start, end = reader.logits(pairs)
    reading = reader.reading(start, end, pairs, found)
    mass = np.zeros(len(found))
    for row, pair in enumerate(pairs):
        for first, last in itertools.product(range(len(pair.offsets)), repeat=2):
            if pair.offsets[first] is not None and pair.offsets[last] is not None and 0 <= last - first < 3:
                mass[row] += np.exp(float(start[row, first] + end[row, last]) + 2 * found[row].score)
    assert reading.posterior == pytest.approx(mass / mass.sum(), rel=1e-4)
    weights = np.exp([2 * passage.score for passage in found])
    assert reading.prior == pytest.approx(weights / weights.sum(), rel=1e-5)


def test_nothing_to_read_has_no_posterior(reader):
    nothing, blank = reader.read_all([QUESTION] * 2, [[], [ReadingPassage("p", " ", 0.3)]], prefixes=(1,))
    assert (nothing.answer, nothing.of_first, nothing.posterior) == (None, {1: None}, ())
    assert (blank.answer, blank.of_first, blank.posterior) == (None, {1: None}, (0.0,))


def test_equal_texts_add_up_among_the_best_spans(reader):
    passages = [
        ReadingPassage("p1", "big", 0.0),
        ReadingPassage("p2", "Paris", 0.0),
        ReadingPassage("p3", "paris", 0.0),
    ]
    pairs = [EncodedPair([1], [1], [(0, len(passage.text))]) for passage in passages]
    start, end = torch.tensor([[0.40], [0.35], [0.25]]).log(), torch.zeros(3, 1)
    chosen = {
        count: with_settings(reader, candidates=count).best_span(start, end, pairs, passages)
        for count in (1, 2, 3, 50)
    }
    assert (chosen[1].text, chosen[2].text, chosen[3].text) == ("big", "big", "Paris")
    assert chosen[1].score == pytest.approx(0.40) and chosen[3].score == pytest.approx(0.60)
    assert chosen[3] == chosen[50] and (chosen[3].passage_id, chosen[3].start, chosen[3].end) == ("p2", 0, 5)


def test_questions_are_read_in_blocks_as_one_by_one(reader, found, monkeypatch):
    asked = [f"square root {number}?" for number in range(7)]
    passages = [found[: number % 4] for number in range(7)]
    alone = [reader.read_all([one], [its])[0] for one, its in zip(asked, passages, strict=True)]
    for tokens in (1, 70, 10_000):
        monkeypatch.setattr("ragsmith.read.extractive.READ_TOKENS", tokens)
        for reading, other in zip(reader.read_all(asked, passages), alone, strict=True):
            assert reading.posterior == pytest.approx(other.posterior, rel=1e-4)
            assert (reading.answer and reading.answer.text) == (other.answer and other.answer.text)


def test_reading_in_the_middle_of_training_leaves_the_model_in_training(reader, found):
    reader.model.train()
    reader.answer(QUESTION, found)
    assert reader.model.training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_tokens": 1}, "max_tokens is 1; it must be a whole number of at least 2"),
        ({"max_answer_tokens": 0, "candidates": 0}, "max_answer_tokens is 0; .*candidates is 0; "),
        ({"prior_weight": float("inf")}, "prior_weight is inf; it must be a finite number"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=f"^ReaderSettings: .*{message}"):
        ReaderSettings(**values)


def test_damaged_settings_of_a_saved_reader_are_refused(reader, machine, tmp_path):
    reader.save(tmp_path)
    for written in ('{"max_tokens": 0}', '{"max_tokens": "many"}', '{"tokens": 5}', "[]"):
        (tmp_path / "reader.json").write_text(written)
        with pytest.raises(ModelError, match=r"reader\.json is damaged or of another version"):
            ExtractiveReader.load(tmp_path, machine=machine)


@pytest.mark.parametrize("candidates", [1, 9])
def test_answer_that_may_be_longer_than_its_passage_takes_no_room_beyond_it(reader, found, candidates):
    """A band of a million tokens would be some gigabytes."""
    reader.model.eval()
    settings = replace(reader.settings, prior_weight=2.0, candidates=candidates)
    endless, whole = (
        reader.with_settings(replace(settings, max_answer_tokens=longest)) for longest in (10**6, settings.max_tokens)
    )
    pairs = reader.encode_all(["delete a tree"] * 3, [passage.text for passage in found])
    start, end = reader.logits(pairs)
    assert endless.span_scores(start, end, found).shape == (3, start.shape[1], start.shape[1])
    assert endless.read_all(["delete a tree"], [found], (1, 2)) == whole.read_all(["delete a tree"], [found], (1, 2))
    both = start[:, :, None] + end[:, None, :]
    ordered = both.triu().masked_fill(~torch.ones_like(both, dtype=torch.bool).triu(), float("-inf"))
    scores = endless.with_settings(replace(endless.settings, prior_weight=0.0)).span_scores(start, end, found)
    torch.testing.assert_close(scores.flatten(1).logsumexp(1), ordered.flatten(1).logsumexp(1))
