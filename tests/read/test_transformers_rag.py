"""Beside the RAG classes of transformers: equal where those are right, and where they are wrong, both said.

Each test of the second part asserts what transformers does today and what ours does: when one fails after an upgrade,
transformers has changed, and the test and docs/readers.md are to be told.
"""

import copy
import math

import faiss
import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertModel,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    GenerationConfig,
    RagConfig,
    RagRetriever,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    TextStreamer,
    Trainer,
    TrainingArguments,
)
from transformers.models.rag.retrieval_rag import CustomHFIndex

from ragsmith.compute.batching import padded
from ragsmith.read.objectives import log_prior
from ragsmith.read.rag_settings import RagSettings
from ragsmith.read.rag_task import RagTask
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.routes import separated

HF = {"rag_token": RagTokenForGeneration, "rag_sequence": RagSequenceForGeneration}
QUESTIONS = ["How do I delete a directory?", "What is the capital of France?"]
PASSAGES = [
    [ReadingPassage("p1", "shutil.rmtree(path)", 0.7), ReadingPassage("p2", "math.sqrt(x) gives", -0.2)],
    [ReadingPassage("p3", "Paris / France and more of it", 0.1), ReadingPassage("p2", "the square root", 0.4)],
]
ANSWERS = ["shutil.rmtree deletes", "Paris"]
DOCS = 2
LENGTH = 8
DPR = DPRConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)


def theirs(reader, n_docs=DOCS, **generation):
    """The same weights in the RAG class of transformers."""
    # transformers keeps what decoding needs in two places: RAG-Token reads its own, RAG-Sequence the generator's.
    config = GenerationConfig(**(reader.model.generation_config.to_diff_dict() | generation))
    torch.manual_seed(0)
    encoder = DPRQuestionEncoder(DPR)
    generator = copy.deepcopy(reader.model)
    if not hasattr(generator.config, "bos_token_id"):
        generator.config.bos_token_id = None  # see the test of this bug
    ids = {name: getattr(config, name) for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")}
    model = HF[reader.settings.kind](question_encoder=encoder, generator=generator, n_docs=n_docs, **ids)
    model = model.eval()
    # The constructor copies the generator's configuration: what was set above must be on both.
    model.config.generator.bos_token_id = getattr(reader.model.config, "bos_token_id", None)
    model.generation_config = config
    return model


def their_retriever(config, reader, vectors):
    """A `RagRetriever` over two passages with these vectors."""
    table = {"title": ["one", "two"], "text": ["shutil.rmtree(path)", "math.sqrt(x)"], "embeddings": vectors}
    base = Dataset.from_dict(table)
    base.add_faiss_index("embeddings", metric_type=faiss.METRIC_INNER_PRODUCT)
    index = CustomHFIndex(len(vectors[0]), base)
    return RagRetriever(config, reader.tokenizer, reader.tokenizer, index, init_retrieval=False)


def contexts(reader, questions=QUESTIONS, passages=PASSAGES):
    """Questions and passages as transformers wants them, with the scores of the passages."""
    ids, shown = padded(reader.pair_texts(questions, passages), reader.pad, "cpu")
    scores, _ = reader.scores(passages)
    return {"context_input_ids": ids, "context_attention_mask": shown.long(), "doc_scores": scores}


def without_padding(reader):
    """The reader, with all pairs cut to the same length: RAG-Sequence of transformers reads padding (see below)."""
    pair_texts = reader.pair_texts
    reader.pair_texts = lambda *asked: [[*row[:11], row[-1]] for row in pair_texts(*asked)]
    return reader


def their_labels(reader, targets):
    return padded([[reader.start, *target] for target in targets], reader.pad, "cpu")[0]


def our_losses(reader, scores, targets, smoothing=0.0, questions=QUESTIONS, passages=PASSAGES):
    present = torch.ones(scores.shape).bool()
    return reader.evidence(questions, passages, targets, log_prior(scores, present), present, False, smoothing).nll


def generated(reader, questions=QUESTIONS, passages=PASSAGES):
    with torch.inference_mode():
        return reader.generate_ids(questions, passages, log_prior(*reader.scores(passages)))


def trimmed(reader, output):
    return [reader.ended(row[1:]) for row in output.tolist()]


# --- where they are right ---


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence"])
def test_loss_and_gradient_equal_those_of_transformers(writer, name, kind, seed):
    reader = writer(name, kind, seed)
    model, targets = theirs(reader), reader.targets(ANSWERS)
    inputs = contexts(reader)
    inputs["doc_scores"].requires_grad_()
    expected = model(**inputs, labels=their_labels(reader, targets)).loss
    (to_scores,) = torch.autograd.grad(expected.sum(), [inputs["doc_scores"]], retain_graph=True)
    expected.sum().backward()
    scores = inputs["doc_scores"].detach().clone().requires_grad_()
    ours = our_losses(reader, scores, targets)
    ours.sum().backward()
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()
    torch.testing.assert_close(scores.grad, to_scores, rtol=1e-3, atol=1e-5)
    of_theirs = dict(model.rag.generator.named_parameters())
    for parameter_name, parameter in reader.model.named_parameters():
        its = of_theirs[parameter_name].grad
        assert (parameter.grad - its).norm() <= 1e-3 * its.norm() + 1e-4, parameter_name


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_smoothed_loss_of_rag_token_equals_that_of_transformers(writer, name):
    reader = writer(name, "rag_token")
    model, targets = theirs(reader), reader.targets(ANSWERS)
    model.config.label_smoothing = 0.1
    inputs = contexts(reader)
    with torch.no_grad():
        expected = model(**inputs, labels=their_labels(reader, targets)).loss
        ours = our_losses(reader, inputs["doc_scores"], targets, 0.1)
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_rag_token_writes_what_transformers_writes(writer, name, seed, beams):
    reader = writer(name, "rag_token", seed, {"num_beams": beams}, max_answer_tokens=LENGTH)
    output = theirs(reader).generate(**contexts(reader), num_beams=beams, max_length=LENGTH + 1)
    assert generated(reader) == trimmed(reader, output)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize(
    "said",
    [
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},
        {"suppress_tokens": [*range(3, 90, 2)]},
        {"begin_suppress_tokens": [*range(3, 90, 3)]},
    ],
    ids=lambda said: next(iter(said)),
)
def test_rag_token_forbids_and_penalises_where_transformers_does(writer, said, name, beams):
    # Passages of like weight and long answers, for the two orders to part: mixed first, or last.
    length = 2 * LENGTH
    for seed in range(6):
        reader = writer(name, "rag_token", seed, {"num_beams": beams}, max_answer_tokens=length, prior_weight=0.3)
        # BART's end mark starts the decoder: an n-gram of one forbids it, and being forced prevails.
        reader.model.generation_config.update(**said, forced_eos_token_id=reader.ends[0])
        output = theirs(reader).generate(**contexts(reader), num_beams=beams, max_length=length + 1)
        expected = trimmed(reader, output)
        assert generated(reader) == expected
        if beams == 1:
            assert "".join(reader.stream(QUESTIONS[0], PASSAGES[0])) == reader.text(expected[0])


@pytest.mark.parametrize(("name", "beams"), [("bart", 1), ("bart", 3), ("t5", 1)])
@pytest.mark.parametrize("seed", range(6))
def test_rag_sequence_writes_what_transformers_writes(writer, name, seed, beams):
    reader = without_padding(writer(name, "rag_sequence", seed, {"num_beams": beams}, max_answer_tokens=LENGTH))
    # An untrained T5 writes the padding token in the middle of answers; transformers scores it as certain.
    reader.model.generation_config.suppress_tokens = [reader.pad]
    output = theirs(reader).generate(**contexts(reader), num_beams=beams, max_new_tokens=LENGTH)
    assert generated(reader) == trimmed(reader, output)


def test_passages_change_what_is_written_or_equality_would_say_nothing(writer):
    answers = set()
    for seed in range(6):
        reader = writer("bart", "rag_token", seed, max_answer_tokens=LENGTH)
        for row in range(2):
            for found in PASSAGES:
                answers.add((seed, row, tuple(generated(reader, QUESTIONS[row : row + 1], [found])[0])))
    assert len(answers) >= 12


# --- where they are wrong ---


def test_b1_rag_sequence_with_t5_fails_in_transformers_for_want_of_a_bos_token(writer):
    reader = writer("t5", "rag_sequence")
    model, targets = theirs(reader), reader.targets(ANSWERS)
    del model.config.generator.bos_token_id
    with pytest.raises(AttributeError, match="bos_token_id"):
        model(**contexts(reader), labels=their_labels(reader, targets))
    assert torch.isfinite(our_losses(reader, reader.scores(PASSAGES)[0], targets)).all()


def test_b2_rag_token_of_transformers_ignores_max_new_tokens(writer):
    for seed in range(3):
        reader = writer("bart", "rag_token", seed, max_answer_tokens=5)
        output = theirs(reader).generate(**contexts(reader), max_new_tokens=5)
        assert output.shape[1] == 20  # what max_length is when nobody sets it
        ours = generated(reader)
        assert [len(answer) for answer in ours] == [5, 5]
        assert ours == [row[1:6] for row in output.tolist()]


def test_b3_one_token_answers_lose_their_prior_in_rag_sequence_of_transformers(writer):
    reader = writer("t5", "rag_sequence")
    model = theirs(reader)
    targets = [[5], [7]]
    inputs = contexts(reader)
    inputs["doc_scores"].requires_grad_()
    wrong = model(**inputs, labels=their_labels(reader, targets)).loss
    (to_scores,) = torch.autograd.grad(wrong.sum(), [inputs["doc_scores"]])
    assert not to_scores.any()
    # It sums the passages' likelihoods without weighing them.
    scores = inputs["doc_scores"].detach().requires_grad_()
    ours = our_losses(reader, scores, targets)
    with torch.no_grad():
        alone = [
            [
                our_losses(reader, torch.zeros(1, 1), [target], questions=[question], passages=[[passage]]).item()
                for passage in found
            ]
            for question, found, target in zip(QUESTIONS, PASSAGES, targets, strict=True)
        ]
    prior = scores.softmax(1).tolist()
    unweighed = [-math.log(sum(math.exp(-loss) for loss in losses)) for losses in alone]
    right = [
        -math.log(sum(share * math.exp(-loss) for share, loss in zip(shares, losses, strict=True)))
        for shares, losses in zip(prior, alone, strict=True)
    ]
    assert wrong.tolist() == pytest.approx(unweighed, rel=1e-4)
    assert ours.tolist() == pytest.approx(right, rel=1e-4)
    ours.sum().backward()
    assert scores.grad.abs().min() > 0


def test_b4_passages_that_are_not_there_get_a_share_in_transformers(writer):
    reader = writer("bart", "rag_token", prior_weight=1.0)
    retriever = their_retriever(theirs(reader).config, reader, [[-1.0, 0.0], [0.0, -1.0]])
    given, _, found = retriever.retrieve(np.array([[1.0, 1.0]], dtype=np.float32), n_docs=4)
    # The last passage comes three times, twice with a vector of zeros: a higher score than the real ones have.
    assert list(found[0]["text"]).count("math.sqrt(x)") == 3
    assert (given[0] @ np.ones(2)).tolist() == [-1, -1, 0, 0]
    few = [ReadingPassage("p1", "shutil.rmtree(path)", -1.0), ReadingPassage("p2", "math.sqrt(x)", -1.0)]
    many = [ReadingPassage(str(number), "Paris", 0.5) for number in range(4)]
    readings = reader.read_all(QUESTIONS, [few, many])
    assert readings[0].prior == (0.5, 0.5) and len(readings[1].prior) == 4
    assert readings[0].answer.text == reader.answer(QUESTIONS[0], few).text


def test_b5_rag_sequence_of_transformers_scores_with_another_number_of_passages_than_was_asked(writer):
    reader = without_padding(writer("bart", "rag_sequence", max_answer_tokens=LENGTH))
    with pytest.raises((RuntimeError, AssertionError)):
        theirs(reader, n_docs=3).generate(**contexts(reader), n_docs=2, max_new_tokens=LENGTH)
    # Ours reads what it is given: any number, and another for each question.
    readings = reader.read_all(QUESTIONS, [PASSAGES[0], PASSAGES[1][:1]])
    assert [len(reading.posterior) for reading in readings] == [2, 1]


def test_rag_sequence_of_transformers_reads_the_padding_when_it_writes(writer):
    differ = 0
    for seed in range(4):
        reader = writer("t5", "rag_sequence", seed, max_answer_tokens=LENGTH)
        question, found = QUESTIONS[:1], PASSAGES[:1]
        alone = generated(reader, question, found)
        inputs = contexts(reader, question, found)
        lengths = inputs["context_attention_mask"].sum(1).tolist()
        assert lengths[0] != lengths[1]
        model = theirs(reader)
        more = torch.nn.functional.pad(inputs["context_input_ids"], (0, 30), value=reader.pad)
        shown = torch.nn.functional.pad(inputs["context_attention_mask"], (0, 30))
        theirs_wide = model.generate(
            context_input_ids=more,
            context_attention_mask=shown,
            doc_scores=inputs["doc_scores"],
            max_new_tokens=LENGTH,
        )
        theirs_narrow = model.generate(**inputs, max_new_tokens=LENGTH)
        differ += trimmed(reader, theirs_wide) != trimmed(reader, theirs_narrow)
        # Beside a longer question, ours pads this one, and writes the same.
        longer = [ReadingPassage("p", "Paris " * 12, 0.0)]
        assert generated(reader, [*question, "Which?"], [*found, longer])[:1] == alone
    assert differ > 0


def test_rag_sequence_of_transformers_scores_the_filling_behind_short_beams_of_t5(writer):
    # T5's padding token is 0: `pad_token_id or eos_token_id` in beam search fills with end marks, and they are scored.
    worse = 0
    for seed in range(6):
        reader = without_padding(writer("t5", "rag_sequence", seed, {"num_beams": 3}, max_answer_tokens=LENGTH))
        reader.model.generation_config.suppress_tokens = [reader.pad]
        model, inputs = theirs(reader), contexts(reader)
        with torch.no_grad():
            output = model.generate(**inputs, num_beams=3, max_new_tokens=LENGTH)
            ours = generated(reader)
            scores = inputs["doc_scores"]
            losses = [our_losses(reader, scores, answers) for answers in (ours, trimmed(reader, output))]
            # By its own loss, too, what ours writes is the more probable.
            by_theirs = model(**inputs, labels=their_labels(reader, ours)).loss
        assert by_theirs.tolist() == pytest.approx(losses[0].tolist(), rel=1e-5)
        assert (losses[0] <= losses[1] + 1e-4).all()
        worse += int((losses[0] < losses[1] - 0.1).sum())
    assert worse > 0


def test_labels_with_the_usual_mark_for_padding_fail_in_transformers(writer):
    reader = writer("bart", "rag_token")
    targets = reader.targets(ANSWERS)
    labels = their_labels(reader, targets)
    assert len(targets[0]) != len(targets[1])
    inputs = contexts(reader)
    with pytest.raises(IndexError, match="out of range"):
        theirs(reader)(**inputs, labels=labels.masked_fill(labels == reader.pad, -100))
    # Ours takes answers of any length as lists: there is no mark to be wrong about.
    assert torch.isfinite(our_losses(reader, inputs["doc_scores"], targets)).all()


def test_answers_that_end_with_the_padding_token_are_cut_short_in_transformers(writer):
    # A GPT-like tokenizer pads with its end mark: transformers then leaves the end mark out of the loss.
    reader = writer("bart", "rag_token")
    targets = reader.targets(ANSWERS)
    model = theirs(reader)
    model.config.generator.pad_token_id = 2
    inputs = contexts(reader)
    with torch.no_grad():
        wrong = model(**inputs, labels=padded([[reader.start, *target] for target in targets], 2, "cpu")[0]).loss
        ours = our_losses(reader, inputs["doc_scores"], targets)
        reader.pad = 2
        padded_alike = our_losses(reader, inputs["doc_scores"], targets)
        cut = our_losses(reader, inputs["doc_scores"], [target[:-1] for target in targets])
    assert ours.tolist() == pytest.approx(padded_alike.tolist(), rel=1e-5)
    assert wrong.tolist() == pytest.approx(cut.tolist(), rel=1e-4)


def test_streaming_fails_in_transformers_and_gives_the_answer_here(writer):
    reader = writer("bart", "rag_token", max_answer_tokens=LENGTH)
    with pytest.raises(ValueError, match="streamer"):
        theirs(reader).generate(**contexts(reader), streamer=TextStreamer(reader.tokenizer))
    assert "".join(reader.stream(QUESTIONS[0], PASSAGES[0])) == reader.answer(QUESTIONS[0], PASSAGES[0]).text


def test_streaming_of_rag_sequence_fails_at_its_passages_in_transformers_and_is_refused_with_the_reason_here(writer):
    reader = writer("bart", "rag_sequence", max_answer_tokens=LENGTH)
    question = contexts(reader, QUESTIONS[:1], PASSAGES[:1])
    with pytest.raises(ValueError, match="only supports batch size 1"):
        theirs(reader).generate(**question, streamer=TextStreamer(reader.tokenizer), max_new_tokens=LENGTH)
    with pytest.raises(ValueError, match="not in rag_sequence: before the end it is not known which one it will be"):
        reader.stream(QUESTIONS[0], PASSAGES[0])


@pytest.mark.parametrize("kind", HF)
def test_loss_of_transformers_is_one_for_each_example_which_trainer_cannot_take_or_their_sum(
    writer, live_index, town_questions, tmp_path, kind
):
    reader = writer("bart", kind)
    model, targets = theirs(reader), reader.targets(ANSWERS)
    batch = {**contexts(reader), "labels": their_labels(reader, targets)}
    arguments = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True)
    trainer = Trainer(model, arguments, train_dataset=[{}], data_collator=lambda _: batch)
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        trainer.train()
    with torch.no_grad():
        summed = model.eval()(**batch, reduce_loss=True).loss
        ours = our_losses(reader, batch["doc_scores"], targets)
    assert summed.item() == pytest.approx(ours.sum().item(), rel=1e-5)
    # Here a batch has the mean of its questions' losses, however many they are.
    index = live_index()

    def loss(size, number):
        settings = RagSettings(batch_size=size, passages=2, encoders="none", objective="none")
        return RagTask(reader, index, town_questions, [], settings, "base").loss(0, number)[0].item()

    assert loss(2, 0) == pytest.approx((loss(1, 0) + loss(1, 1)) / 2, rel=1e-5)


def test_b7_generator_gets_what_the_other_tokenizer_left_of_the_question_and_much_padding_in_transformers(
    writer, tiny_model
):
    reader = writer("bart", "rag_token", template="{passage} // {question}")
    question = "What is the Capital of Türkiye, 🙂?"
    retriever = their_retriever(theirs(reader).config, reader, [[1.0, 0.0], [0.0, 1.0]])
    retriever.question_encoder_tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    asked = retriever.question_encoder_tokenizer([question])["input_ids"]
    given = retriever(asked, np.array([[1.0, 0.5]], dtype=np.float32), n_docs=2, return_tensors="pt")
    texts = reader.tokenizer.batch_decode(given["context_input_ids"], skip_special_tokens=True)
    assert [text.partition(" // ")[2] for text in texts] == ["what is the capital of turkiye,?"] * 2
    # All pairs are as long as the longest may be.
    longest = int(given["context_attention_mask"].sum(1).max())
    assert given["context_input_ids"].shape[1] == retriever.config.max_combined_length > 4 * longest
    # Ours reads the question's own text, and pads to the longest pair that there is.
    pairs = reader.pair_texts([question], PASSAGES[:1])
    assert [reader.text(pair).partition(" // ")[2] for pair in pairs] == [question] * 2
    widths = set()
    reader.model.get_encoder().register_forward_pre_hook(
        lambda encoder, arguments, named: widths.add(named["input_ids"].shape[1]), with_kwargs=True
    )
    reader.read_all([question], PASSAGES[:1])
    assert widths == {max(map(len, pairs))}


@pytest.mark.parametrize("kind", HF)
def test_b6_trained_encoder_of_passages_is_written_by_transformers_and_lost_when_it_is_loaded(
    writer, tiny_model, machine, tmp_path, kind
):
    model = theirs(writer("bart", kind))
    model.set_context_encoder_for_training(DPRContextEncoder(DPR))
    model.save_pretrained(tmp_path / "theirs")
    written = load_file(tmp_path / "theirs/model.safetensors")
    assert sum(name.startswith("rag.ctx_encoder.") for name in written) == len(DPRContextEncoder(DPR).state_dict())
    assert HF[kind].from_pretrained(tmp_path / "theirs").rag.ctx_encoder is None
    # A retriever with two encoders here comes back with both.
    ours = Encoder(separated(load_sentence_transformer(tiny_model)), machine)
    with torch.no_grad():
        for parameter in ours.towers["passage"].module.parameters():
            parameter.mul_(1.5)
    texts = [passage.text for passage in PASSAGES[0]]
    expected = ours.encode(texts, "passage")
    assert np.abs(expected - ours.encode(texts, "query")).max() > 0.01
    ours.model.save(str(tmp_path / "ours"), create_model_card=False)
    assert np.array_equal(Encoder.load(tmp_path / "ours", machine).encode(texts, "passage"), expected)


@pytest.mark.parametrize("kind", HF)
def test_encoder_that_gives_a_state_for_each_token_cannot_ask_questions_in_transformers(
    writer, tiny_model, live_index, town_questions, kind
):
    reader = writer("bart", kind)
    bert = BertModel.from_pretrained(tiny_model)
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    model = HF[kind](question_encoder=bert, generator=copy.deepcopy(reader.model), n_docs=2, **ids)
    model.set_retriever(their_retriever(model.config, reader, np.eye(2, bert.config.hidden_size).tolist()))
    asked = torch.tensor([[0, 5, 6, 2]])
    with pytest.raises(ValueError, match="Shape of query must be 2D"):
        model(input_ids=asked, labels=asked)
    # The same BERT, pooled as its folder says, asks and learns here.
    task = RagTask(reader, live_index(), town_questions, [], RagSettings(batch_size=2, passages=2), "base")
    task.loss(0, 0)[0].backward()
    assert (
        sum(parameter.grad.abs().sum() for parameter in task.encoder.model.parameters() if parameter.grad is not None)
        > 0
    )


@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("kind", HF)
def test_b8_labels_as_the_generator_itself_takes_them_are_misaligned_in_transformers(writer, name, kind):
    reader = writer(name, kind)
    model, targets, inputs = theirs(reader), reader.targets(ANSWERS), contexts(reader)
    labels = padded(targets, reader.pad, "cpu")[0]
    with torch.no_grad():
        ours = our_losses(reader, inputs["doc_scores"], targets)
        right = model(**inputs, labels=their_labels(reader, targets)).loss
        # Without the start token in front, and with what its decoder is to see beside: both without a word.
        plain = model(**inputs, labels=labels).loss
        shifted = model(**inputs, labels=labels, decoder_input_ids=reader.shifted(labels)).loss
    assert ours.tolist() == pytest.approx(right.tolist(), rel=1e-5)
    assert (plain < ours - 1).all() and (shifted[0] < ours[0] - 1)
    # Here the start token is the reader's own matter: targets are the tokens of the answer and no more.
    assert reader.start not in {target[0] for target in targets}


@pytest.mark.parametrize("kind", HF)
def test_decoder_alone_cannot_be_the_generator_in_transformers(writer, generators, kind):
    generator = AutoModelForCausalLM.from_pretrained(generators("gpt2"))
    config = RagConfig.from_question_encoder_generator_configs(DPR, generator.config)
    with pytest.raises(ValueError, match="AutoModelForSeq2SeqLM"):
        HF[kind](config)
    seq2seq = writer("bart", kind)
    model = HF[kind](config, question_encoder=DPRQuestionEncoder(DPR), generator=generator)
    with pytest.raises(AttributeError, match="encoder_last_hidden_state"):
        model(**contexts(seq2seq), labels=their_labels(seq2seq, seq2seq.targets(ANSWERS)), n_docs=DOCS)
    reader = writer("gpt2", "causal")
    losses = our_losses(reader, reader.scores(PASSAGES)[0], reader.targets(ANSWERS))
    assert torch.isfinite(losses).all() and len(reader.answer_all(QUESTIONS, PASSAGES)) == 2


@pytest.mark.parametrize("kind", HF)
def test_gradient_checkpointing_is_refused_by_transformers_and_parts_are_computed_again_here(writer, kind):
    reader = writer("bart", kind)
    with pytest.raises(ValueError, match="does not support activation checkpointing"):
        theirs(reader).activation_checkpointing_enable()

    def gradient(micro_tokens):
        reader.micro_tokens = micro_tokens
        reader.model.zero_grad()
        our_losses(reader, reader.scores(PASSAGES)[0], reader.targets(ANSWERS)).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in reader.model.parameters()])

    calls = []
    part = reader._pair_part
    reader._pair_part = lambda *arguments: (calls.append(1), part(*arguments))[1]
    whole = gradient(4096)
    assert len(calls) == 1
    again = gradient(16)
    # Four pairs, each in a part of its own, and once more in the backward pass.
    assert len(calls) == 1 + 2 * 4
    torch.testing.assert_close(again, whole, rtol=1e-3, atol=1e-3 * whole.abs().max().item())


@pytest.mark.parametrize("kind", HF)
def test_hidden_states_that_are_asked_for_are_left_out_by_transformers(writer, kind):
    reader = writer("bart", kind)
    labels = their_labels(reader, reader.targets(ANSWERS))
    output = theirs(reader)(**contexts(reader), labels=labels, output_hidden_states=True)
    assert output.generator_enc_hidden_states is None and output.generator_dec_hidden_states is None
    # The reader's model is the plain generator, which gives them: the embeddings and two layers.
    ids, shown = padded(reader.pair_texts(QUESTIONS, PASSAGES), reader.pad, "cpu")
    given = {"input_ids": ids, "attention_mask": shown.long(), "decoder_input_ids": labels.repeat_interleave(DOCS, 0)}
    output = reader.model(**given, output_hidden_states=True)
    assert len(output.encoder_hidden_states) == len(output.decoder_hidden_states) == 3
