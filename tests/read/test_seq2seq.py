import json
from shutil import copytree

import pytest
import torch

from ragsmith.read.generative import GenerativeSettings
from ragsmith.read.objectives import log_prior
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError

NAMES = ["bart", "t5", "bert_to_bert"]
QUESTION = "How do I delete a directory?"


def one(text):
    return [ReadingPassage("p", text, 0.0)]


def pair(reader, question, passage):
    return reader.pair_texts([question], [one(passage)])[0]


@pytest.mark.parametrize("name", NAMES)
def test_pair_that_fits_is_what_the_tokenizer_makes_of_the_template(writer, name):
    reader = writer(name, "rag_token")
    expected = reader.tokenizer(f"question: {QUESTION} context: math.sqrt(x)")["input_ids"]
    assert pair(reader, QUESTION, "math.sqrt(x)") == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("passage", ["word " * 300, "w" * 2000, "🙂" * 300, "ﷺ" * 200, "Ünïcödé " * 100])
def test_long_passage_is_cut_and_the_question_is_kept_whole(writer, name, passage):
    reader = writer(name, "rag_token", max_tokens=64)
    ids = pair(reader, "delete a directory", passage)
    assert len(ids) <= 64
    assert "delete a directory" in reader.tokenizer.decode(ids, skip_special_tokens=True)
    # All of the room is used; BERT takes a long word for one unknown token.
    assert len(ids) >= min(64 - 20, reader.length(passage))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("question", ["word " * 300, "w" * 2000, "🙂" * 300, "ﷺ" * 200])
@pytest.mark.parametrize("passage", ["", "short", "other text of a passage " * 50])
def test_long_question_is_cut_to_half_and_never_below(writer, name, question, passage):
    reader = writer(name, "rag_token", max_tokens=64)
    ids = pair(reader, question, passage)
    assert min(64 // 2, reader.length(question)) <= len(ids) <= 64
    if passage.startswith("other"):
        assert len(ids) >= 64 - 10  # what the question leaves is the passage's


def test_question_that_normalisation_makes_longer_keeps_to_the_limit(writer):
    frame = writer("t5", "rag_token").frame_length()
    reader = writer("t5", "rag_token", max_tokens=2 * frame)
    question = "ﷺ" * 50  # one character is four words
    assert reader.length(reader.shortened(question, frame)) > frame
    assert len(pair(reader, question, "passage")) == 2 * frame


def test_braces_in_texts_are_text(writer):
    reader = writer("t5", "rag_token", template="{passage} // {question}")
    assert reader.composed("{passage} {0}", "{question} {x") == "{question} {x // {passage} {0}"
    assert reader.composed("q", "{passage}") == "{passage} // q"


@pytest.mark.parametrize(
    ("name", "special"), [("bart", "</s>"), ("bart", "<pad>"), ("t5", "</s>"), ("bert_to_bert", "[SEP]")]
)
def test_special_tokens_in_texts_mark_nothing(writer, name, special):
    reader = writer(name, "rag_token")
    mark = reader.tokenizer.convert_tokens_to_ids(special)
    clean = pair(reader, "a question", "a passage").count(mark)
    assert pair(reader, f"a {special} question", f"{special}{special} a passage").count(mark) == clean
    (answer,) = reader.targets([f"one {special} two"])
    assert answer[:-1].count(mark) == reader.targets(["one two"])[0][:-1].count(mark)


@pytest.mark.parametrize("name", NAMES)
def test_targets_begin_after_the_start_token_and_are_ended_once(writer, name):
    reader = writer(name, "rag_token", max_answer_tokens=5)
    for answer in ["Paris", "", "the capital of France is Paris and more", "日本語"]:
        (target,) = reader.targets([answer])
        assert 1 <= len(target) <= 5
        assert [place for place, token in enumerate(target) if token in reader.ends] == [len(target) - 1]
        assert reader.start not in target[:-1]
    assert reader.text(reader.targets(["Paris"])[0]).lower() == "paris"


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_one_token_are_the_end_mark_alone(writer, name):
    reader = writer(name, "rag_token", max_answer_tokens=1)
    assert reader.targets(["Paris", ""]) == [[reader.ends[0]]] * 2
    assert reader.answer(QUESTION, one("Paris")) is not None


def test_bart_learns_the_token_that_decoding_forces(writer):
    reader = writer("bart", "rag_token")
    assert [target[0] for target in reader.targets(["Paris", ""])] == [reader.forced] * 2


@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence", "fid"])
def test_one_passage_makes_all_kinds_the_plain_model(writer, kind):
    reader = writer("t5", kind)
    targets = reader.targets(["Paris", "the square root"])
    passages = [one("Paris / France"), one("math.sqrt")]
    prior, present = torch.zeros(2, 1), torch.ones(2, 1).bool()
    with torch.no_grad():
        found = reader.evidence([QUESTION] * 2, passages, targets, prior, present, True)
        for row, target in enumerate(targets):
            ids = torch.tensor([pair(reader, QUESTION, passages[row][0].text)])
            loss = reader.model(input_ids=ids, labels=torch.tensor([target])).loss * len(target)
            assert found.nll[row].item() == pytest.approx(loss.item(), rel=1e-5)
            assert found.log_likelihood[row, 0].item() == pytest.approx(-loss.item(), rel=1e-5)


def test_order_of_passages_matters_in_fid_alone_and_there_only_by_rounding(writer):
    passages = [ReadingPassage(str(number), text, 0.0) for number, text in enumerate(["Paris", "math.sqrt", "tree"])]
    for kind in ("rag_token", "rag_sequence", "fid"):
        reader = writer("bart", kind)
        prior, present = log_prior(torch.zeros(1, 3), torch.ones(1, 3).bool()), torch.ones(1, 3).bool()
        targets = reader.targets(["Paris"])
        with torch.no_grad():
            one_way = reader.evidence([QUESTION], [passages], targets, prior, present, False).nll
            other = reader.evidence([QUESTION], [passages[::-1]], targets, prior, present, False).nll
        assert one_way.item() == pytest.approx(other.item(), rel=1e-4)


def test_best_candidates_are_given_best_first(writer):
    reader = writer("bart", "rag_sequence", decoding={"num_beams": 3})
    passages = [[*one("Paris"), ReadingPassage("q", "math.sqrt", 0.3)]]
    scores, present = reader.scores(passages)
    prior = log_prior(scores, present)
    with torch.inference_mode():
        (candidates,) = reader.candidates([QUESTION], passages, prior, 4)
        losses = [
            reader.judged([QUESTION], passages, [candidate], prior, present).nll.item() for candidate in candidates
        ]
    assert len({tuple(candidate) for candidate in candidates}) == 4
    assert losses == sorted(losses)
    token = writer("bart", "rag_token", decoding={"num_beams": 3})
    with torch.inference_mode():
        (beams,) = token.candidates([QUESTION], passages, prior, 3)
        assert beams[0] == token.generate_ids([QUESTION], passages, prior)[0]
    assert len({tuple(beam) for beam in beams}) == 3


def test_encoder_decoder_without_a_start_token_is_refused(generators, machine, tmp_path):
    folder = copytree(generators("t5"), tmp_path / "model")
    for file in ("config.json", "generation_config.json"):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"decoder_start_token_id": None}))
    with pytest.raises(ModelError, match="no decoder_start_token_id: no answer could begin"):
        Seq2SeqReader.load(folder, GenerativeSettings("fid", max_tokens=64), machine)


def test_start_token_that_the_configuration_alone_names_is_used(generators, machine, tmp_path):
    folder = copytree(generators("t5"), tmp_path / "model")
    for file, start in (("config.json", 7), ("generation_config.json", None)):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"decoder_start_token_id": start}))
    reader = Seq2SeqReader.load(folder, GenerativeSettings("rag_token", max_tokens=64, max_answer_tokens=1), machine)
    ids = torch.tensor([pair(reader, QUESTION, "Paris")])
    with torch.no_grad():
        first = int(reader.model(input_ids=ids, decoder_input_ids=torch.tensor([[7]])).logits[0, 0].argmax())
        written = reader.generate_ids([QUESTION], [one("Paris")], torch.zeros(1, 1))
    assert reader.start == 7 and written == [[first]]
