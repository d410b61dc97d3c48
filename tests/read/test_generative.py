"""What all readers that write have in common: losses and gradients, texts, saving."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from ragsmith.compute.device import Machine
from ragsmith.read.causal import CausalReader
from ragsmith.read.generative import GenerativeSettings, load_settings
from ragsmith.read.objectives import emdr2, log_prior, pdist, rag_sequence
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.models import ModelError

KINDS = [
    *[(name, kind) for name in ("bart", "t5") for kind in ("rag_token", "rag_sequence", "fid")],
    ("bert_to_bert", "rag_token"),
    ("gpt2", "causal"),
    ("llama_chat", "causal"),
]
QUESTIONS = ["How do I delete a directory?", "square root?", "Which city is the capital?"]
PASSAGES = [
    [
        ReadingPassage("p1", "shutil.rmtree deletes a tree", 0.9),
        ReadingPassage("p2", "math.sqrt(x)", 0.2),
        ReadingPassage("p3", "the capital of France is Paris", -0.4),
    ],
    [ReadingPassage("p2", "math.sqrt(x) gives the square root of x", 0.6)],
    [ReadingPassage("p3", "Paris / France", 0.3), ReadingPassage("p4", "", 0.1)],
]
ANSWERS = ["shutil.rmtree", "", "Paris"]  # of the second nothing but the end mark is generated


def prepared(reader, scores):
    prior = log_prior(scores * reader.settings.prior_weight, torch.arange(3) < torch.tensor([3, 1, 2])[:, None])
    return prior, torch.isfinite(prior)


def leaf_scores(dtype=torch.float32):
    scores = torch.zeros(3, 3, dtype=dtype)
    for row, found in enumerate(PASSAGES):
        scores[row, : len(found)] = torch.tensor([passage.score for passage in found])
    return scores.requires_grad_()


def evidence(reader, scores, smoothing=0.0):
    prior, present = prepared(reader, scores)
    targets = reader.targets(ANSWERS)
    return reader.evidence(QUESTIONS, PASSAGES, targets, prior, present, True, smoothing), prior, present


# --- the slow reference: one pair, one token after the other, in float64 ---


def shares_of(logits):
    """Probabilities of the vocabulary from one row of logits."""
    weights = (logits - logits.max().detach()).exp()
    return weights / weights.sum()


def slow_steps(model, reader, encoded, target):
    """p(v | encoded, y_<t) for each t, each from a pass of its own."""
    steps = []
    for t in range(len(target)):
        seen = torch.tensor([[reader.start, *target[:t]]])
        steps.append(shares_of(model(**encoded, decoder_input_ids=seen).logits[0, -1]))
    return steps


def slow_pair(model, reader, question, passage, target):
    ids = reader.tokenizer(f"question: {question} context: {passage}", return_tensors="pt")["input_ids"]
    return slow_steps(model, reader, {"input_ids": ids}, target)


def slow_fused(model, reader, question, passages, target):
    states = []
    for passage in passages:
        ids = reader.tokenizer(f"question: {question} context: {passage.text}", return_tensors="pt")["input_ids"]
        states.append(model.get_encoder()(input_ids=ids)[0][0])
    return slow_steps(model, reader, {"encoder_outputs": (torch.cat(states)[None],)}, target)


def slow_prompt(model, reader, question, passages, target):
    listed = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, start=1))
    text = f"question: {question} context: {listed}"
    if reader.tokenizer.chat_template:
        text = f"<|start|>user\n{text}<|end|>\n<|start|>assistant\n"
    prompt = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [
        shares_of(model(input_ids=torch.tensor([[*prompt, *target[:t]]])).logits[0, -1]) for t in range(len(target))
    ]


def slow_losses(model, reader, scores, smoothing):
    """The reader's own loss of each question, and p(y | x, z) of its passages."""
    kind, weight = reader.settings.kind, reader.settings.prior_weight
    losses, likelihoods = [], []
    for row, (question, found, target) in enumerate(zip(QUESTIONS, PASSAGES, reader.targets(ANSWERS), strict=True)):
        powers = [(weight * scores[row, place]).exp() for place in range(len(found))]
        prior = [power / sum(powers) for power in powers]
        if kind == "causal":
            each = [slow_prompt(model, reader, question, [passage], target) for passage in found]
        else:
            each = [slow_pair(model, reader, question, passage.text, target) for passage in found]
        likelihoods.append([log_of(steps, target).exp() for steps in each])
        if kind == "rag_token":
            mixed = [sum(p * one[t] for p, one in zip(prior, each, strict=True)) for t in range(len(target))]
            losses.append(-log_of(mixed, target, smoothing))
        elif kind == "rag_sequence":
            whole = [p * log_of(steps, target, smoothing).exp() for p, steps in zip(prior, each, strict=True)]
            losses.append(-sum(whole).log())
        else:
            together = slow_fused if kind == "fid" else slow_prompt
            losses.append(-log_of(together(model, reader, question, found, target), target, smoothing))
    return losses, likelihoods


def log_of(steps, target, smoothing=0.0):
    return sum(
        (1 - smoothing) * step[label].log() + smoothing * step.log().sum() / len(step)
        for step, label in zip(steps, target, strict=True)
    )


def slow_retriever_loss(reader, scores, likelihoods, objective):
    total = 0
    teaches_alone = objective != "marginal" or reader.settings.kind in ("fid", "causal")
    for row, likelihood in enumerate(likelihoods):
        after = [p.detach() if teaches_alone else p for p in likelihood]
        powers = [(reader.settings.prior_weight * scores[row, place]).exp() for place in range(len(after))]
        prior = [power / sum(powers) for power in powers]
        if objective == "pdist":
            target = [p / sum(after) for p in after]
            total = total + sum(t * (t.log() - p.log()) for t, p in zip(target, prior, strict=True))
        elif objective != "none":
            total = total - sum(p * one for p, one in zip(prior, after, strict=True)).log()
    return total


def with_objective(reader, scores, objective, smoothing=0.0):
    """Sum of the reader's loss and the objective's, as training adds them."""
    found, prior, present = evidence(reader, scores, smoothing)
    extra = {
        "none": lambda: 0,
        "marginal": lambda: rag_sequence(prior, found.log_likelihood).sum(),
        "emdr2": lambda: emdr2(prior, found.log_likelihood).sum(),
        "pdist": lambda: pdist(prior, found.log_likelihood, present).sum(),
    }[objective]()
    return found.nll.sum() + extra


def gradients(model, loss, scores):
    model.zero_grad()
    scores.grad = None
    loss.backward()
    flat = [
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten().double() for _, p in model.named_parameters()
    ]
    return torch.cat(flat), torch.zeros_like(scores) if scores.grad is None else scores.grad.double()


def assert_like(ours, expected, tolerance):
    """The difference is small beside the whole vector: single entries near 0 are all rounding."""
    assert torch.isfinite(ours).all()
    assert (ours - expected).norm() <= tolerance * expected.norm() + 1e-12


@pytest.mark.parametrize("objective", ["none", "marginal", "emdr2", "pdist"])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_loss_and_gradient_equal_the_slow_reference(writer, name, kind, objective):
    reader = writer(name, kind)
    slow_model, slow_scores = copy.deepcopy(reader.model).double(), leaf_scores(torch.float64)
    losses, likelihoods = slow_losses(slow_model, reader, slow_scores, 0.0)
    reference = sum(losses) + slow_retriever_loss(reader, slow_scores, likelihoods, objective)
    scores = leaf_scores()
    ours = with_objective(reader, scores, objective)
    assert ours.item() == pytest.approx(reference.item(), rel=2e-5)
    to_weights, to_scores = gradients(reader.model, ours, scores)
    expected_weights, expected_scores = gradients(slow_model, reference, slow_scores)
    assert expected_weights.norm() > 0
    assert (expected_scores.norm() > 0) == (objective != "none" or kind in ("rag_token", "rag_sequence"))
    assert_like(to_weights, expected_weights, 2e-3)
    assert_like(to_scores, expected_scores.to(to_scores), 2e-3)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_label_smoothing_equals_the_slow_reference(writer, name, kind):
    reader = writer(name, kind)
    slow_model, slow_scores = copy.deepcopy(reader.model).double(), leaf_scores(torch.float64)
    losses, _ = slow_losses(slow_model, reader, slow_scores, 0.2)
    scores = leaf_scores()
    found, _, _ = evidence(reader, scores, 0.2)
    assert found.nll.tolist() == pytest.approx([loss.item() for loss in losses], rel=2e-5)
    assert found.nll.tolist() != pytest.approx(evidence(reader, scores)[0].nll.tolist(), rel=1e-4)
    ours, expected = gradients(reader.model, found.nll.sum(), scores), gradients(slow_model, sum(losses), slow_scores)
    assert_like(ours[0], expected[0], 2e-3)
    assert_like(ours[1], expected[1].to(ours[1]), 2e-3)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_likelihoods_after_each_passage_equal_the_slow_reference(writer, name, kind):
    reader = writer(name, kind)
    with torch.no_grad():
        found, _, present = evidence(reader, leaf_scores())
        _, expected = slow_losses(copy.deepcopy(reader.model).double(), reader, leaf_scores(torch.float64), 0.0)
    for row, after in enumerate(expected):
        ours = found.log_likelihood[row, : len(after)].tolist()
        assert ours == pytest.approx([p.log().item() for p in after], rel=2e-5)
    assert not found.log_likelihood[~present].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_computing_in_small_parts_gives_the_same_gradient(writer, name, kind, smoothing):
    reader = writer(name, kind)
    scores = leaf_scores()
    whole = gradients(reader.model, with_objective(reader, scores, "marginal", smoothing), scores)
    reader.micro_tokens = 20
    parts = gradients(reader.model, with_objective(reader, scores, "marginal", smoothing), scores)
    assert_like(parts[0], whole[0], 1e-4)
    assert_like(parts[1], whole[1], 1e-4)


@pytest.mark.parametrize(("name", "kind"), [("t5", "rag_token"), ("t5", "fid"), ("gpt2", "causal")])
def test_question_has_the_same_loss_alone_and_in_a_batch(writer, name, kind):
    reader = writer(name, kind)
    with torch.no_grad():
        together, _, _ = evidence(reader, leaf_scores())
        for row, found in enumerate(PASSAGES):
            prior = log_prior(leaf_scores()[row : row + 1, : len(found)] * 3, torch.ones(1, len(found)).bool())
            targets = reader.targets(ANSWERS[row : row + 1])
            alone = reader.evidence([QUESTIONS[row]], [found], targets, prior, torch.isfinite(prior), True)
            assert alone.nll.item() == pytest.approx(together.nll[row].item(), rel=1e-4)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_likelihood_that_nobody_asked_for_does_not_change_the_loss(writer, name, kind):
    reader = writer(name, kind)
    with torch.no_grad():
        prior, present = prepared(reader, leaf_scores())
        targets = reader.targets(ANSWERS)
        ours = reader.evidence(QUESTIONS, PASSAGES, targets, prior, present, likelihood=False)
        asked = reader.evidence(QUESTIONS, PASSAGES, targets, prior, present, likelihood=True)
    assert torch.equal(ours.nll, asked.nll)


# --- reading ---


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_answers_do_not_depend_on_the_other_questions_of_the_batch(writer, name, kind):
    reader = writer(name, kind)
    readings = reader.read_all(QUESTIONS, PASSAGES)
    for question, found, reading in zip(QUESTIONS, PASSAGES, readings, strict=True):
        alone = reader.answer(question, found)
        assert (alone.text, alone.passage_id) == (reading.answer.text, reading.answer.passage_id)
        assert alone.score == pytest.approx(reading.answer.score, rel=1e-3)


@pytest.mark.parametrize(("name", "kind"), [("t5", "rag_token"), ("bart", "rag_sequence"), ("gpt2", "causal")])
def test_readings_hold_prior_posterior_and_the_answers_of_the_first_passages(writer, name, kind):
    reader = writer(name, kind)
    for row, reading in enumerate(reader.read_all(QUESTIONS, PASSAGES, (1, 2))):
        found = PASSAGES[row]
        powers = [2.718281828 ** (3 * passage.score) for passage in found]
        assert reading.prior == pytest.approx([power / sum(powers) for power in powers], rel=1e-5)
        assert len(reading.posterior) == len(found) and sum(reading.posterior) == pytest.approx(1, rel=1e-5)
        assert reading.answer.passage_id == found[reading.posterior.index(max(reading.posterior))].passage_id
        for k, first in reading.of_first.items():
            alone = reader.answer(QUESTIONS[row], found[:k])
            assert (first.text, first.passage_id) == (alone.text, alone.passage_id)


def test_posterior_is_prior_times_likelihood_of_what_was_written(writer):
    reader = writer("t5", "rag_token")
    (reading,) = reader.read_all(QUESTIONS[:1], PASSAGES[:1])
    prior = log_prior(*reader.scores(PASSAGES[:1]))
    with torch.no_grad():
        (written,) = reader.generate_ids(QUESTIONS[:1], PASSAGES[:1], prior)
        slow_model = copy.deepcopy(reader.model).double()
        after = [slow_pair(slow_model, reader, QUESTIONS[0], passage.text, written) for passage in PASSAGES[0]]
    joint = [p * log_of(steps, written).exp().item() for p, steps in zip(reading.prior, after, strict=True)]
    assert reading.posterior == pytest.approx([value / sum(joint) for value in joint], rel=1e-4)


def test_score_is_the_probability_of_the_answer_without_the_token_that_is_forced(writer):
    reader = writer("bart", "rag_token", max_answer_tokens=3)
    span = reader.answer(QUESTIONS[0], PASSAGES[0])
    prior = log_prior(*reader.scores(PASSAGES[:1]))
    with torch.no_grad():
        (written,) = reader.generate_ids(QUESTIONS[:1], PASSAGES[:1], prior)
        slow_model = copy.deepcopy(reader.model).double()
        each = [slow_pair(slow_model, reader, QUESTIONS[0], passage.text, written) for passage in PASSAGES[0]]
    assert written[0] == reader.forced == 0
    expected = 1.0
    for t in range(1, len(written)):
        expected *= sum(p.exp().item() * one[t][written[t]].item() for p, one in zip(prior[0], each, strict=True))
    assert span.score == pytest.approx(expected, rel=1e-3)


def test_answer_that_stands_in_the_passage_has_its_place_there_and_any_other_has_none(writer, monkeypatch):
    reader = writer("t5", "rag_token")
    passages = [ReadingPassage("p", "naïve 日本語 Paris, Paris", 0.0)]
    for text, expected in (("Paris", (10, 15)), ("日本語", (6, 9)), ("Rome", (-1, -1)), ("", (-1, -1))):
        monkeypatch.setattr(reader, "text", lambda ids, text=text: text)
        span = reader.answer("Which city?", passages)
        assert (span.text, span.start, span.end) == (text, *expected)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_without_passages_there_is_no_answer(writer, name, kind):
    reader = writer(name, kind)
    assert reader.answer("What?", []) is None
    nothing, something = reader.read_all(["What?", "Who?"], [[], PASSAGES[0]], (1,))
    assert (nothing.answer, nothing.of_first, nothing.prior, nothing.posterior) == (None, {1: None}, (), ())
    assert something.answer is not None and something.of_first[1] is not None
    assert reader.read_all([], []) == []


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize(
    "text", ["", " \n\t", "Ünïcödé – naïve “quotes”, 日本語 and 🙂", "{passage} {question} {number} {0}"]
)
def test_odd_texts_are_read_as_questions_and_as_passages(writer, name, kind, text):
    reader = writer(name, kind)
    assert reader.answer(text, [ReadingPassage("p", text, 0.1), ReadingPassage("q", "other", 0.1)]) is not None


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_bfloat16_is_near_float32(writer, name, kind):
    reader = writer(name, kind)
    with torch.no_grad():
        exact = evidence(reader, leaf_scores())[0]
        reader.machine = Machine("cpu", "bf16")
        rough = evidence(reader, leaf_scores())[0]
    assert rough.nll.dtype == torch.float32 and not torch.equal(rough.nll, exact.nll)
    assert rough.nll.tolist() == pytest.approx(exact.nll.tolist(), rel=0.08)
    assert reader.answer(QUESTIONS[0], PASSAGES[0]) is not None


# --- settings and folders ---


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_saved_reader_answers_as_before_with_its_own_settings(writer, name, kind, machine, tmp_path):
    decoding = {"num_beams": 2, "thorough": False, "top_k": 5, "temperature": 0.7}
    reader = writer(name, kind, decoding=decoding, prior_weight=1.5)
    reader.save(tmp_path)
    loaded = type(reader).load(tmp_path, machine=machine)
    assert loaded.settings == reader.settings == load_settings(tmp_path)
    assert loaded.read_all(QUESTIONS, PASSAGES) == reader.read_all(QUESTIONS, PASSAGES)
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"kind": "fid"}', "decoding"),
        ('{"kind": "fid", "decoding": {"num_beams": 0}}', "num_beams is 0"),
        ('{"kind": "fid", "decoding": {"beams": 3}}', "beams"),
        ('{"kind": "fid", "decoding": 3}', "damaged"),
        ('{"kind": "fid", "template": 5, "decoding": {}}', "template is 5"),
        ('{"kind": "fid", "max_tokens": "9", "decoding": {}}', "max_tokens is '9'"),
        ('{"kind": "fid", "decoding": {"temperature": null}}', "temperature is None"),
        (
            '{"kind": "rag", "decoding": {}}',
            "No generative reader is called 'rag'.*rag_token, rag_sequence, fid, causal",
        ),
    ],
)
def test_damaged_settings_are_refused_with_the_reason(tmp_path, written, fault):
    (tmp_path / "reader.json").write_text(written)
    with pytest.raises(ModelError, match=fault):
        load_settings(tmp_path)


def test_folder_without_settings_is_no_saved_reader(generators):
    with pytest.raises(ModelError, match=r"reader\.json is not there"):
        Seq2SeqReader.load(generators("t5"))


@pytest.mark.parametrize("template", ["{passage}", "{question}", "{passage} {passage} {question}", ""])
def test_template_without_one_place_for_each_is_refused(writer, template):
    with pytest.raises(ModelError, match=r"it must hold \{(passage|question)\} once"):
        writer("t5", "fid", template=template)


def test_template_that_leaves_no_room_is_refused_with_what_would_do(writer):
    long = "a b c d e f g h i j k l m n o p " * 3 + "{question} {passage}"
    with pytest.raises(ModelError, match=r"takes \d+ tokens, more than half of max_tokens \(64\): set max_tokens to"):
        writer("t5", "fid", max_tokens=64, template=long)


@pytest.mark.parametrize(
    ("name", "kind", "tokens", "answer"), [("bart", "fid", 129, 8), ("bart", "rag_token", 64, 129)]
)
def test_more_tokens_than_the_model_has_places_are_refused(writer, name, kind, tokens, answer):
    with pytest.raises(ModelError, match=r"reads at most 128 tokens, and max_(answer_)?tokens is 129"):
        writer(name, kind, max_tokens=tokens, max_answer_tokens=answer)


def test_prompt_and_answer_together_must_have_places(writer):
    assert writer("gpt2", "causal", max_tokens=248, max_answer_tokens=8)
    with pytest.raises(
        ModelError, match="reads at most 256 tokens, and max_tokens and max_answer_tokens together is 257"
    ):
        writer("gpt2", "causal", max_tokens=249, max_answer_tokens=8)


def test_model_of_another_kind_is_refused_by_name(generators, tiny_model, machine):
    with pytest.raises(ModelError, match="is not an encoder-decoder"):
        Seq2SeqReader.load(generators("gpt2"), GenerativeSettings("fid"), machine)
    with pytest.raises(ModelError, match="is not a causal language model"):
        CausalReader.load(generators("t5"), GenerativeSettings("causal"), machine)


def test_encoder_without_a_head_is_not_read_with_a_random_one(tiny_model, machine):
    with pytest.raises(ModelError, match=r"lacks \d+ of the weights that this reader needs, such as"):
        CausalReader.load(tiny_model, GenerativeSettings("causal", max_tokens=64), machine)


def test_model_that_cannot_end_an_answer_is_refused(generators, machine, tmp_path):
    from shutil import copytree

    folder = copytree(generators("t5"), tmp_path / "model")
    for file in ("config.json", "generation_config.json"):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"eos_token_id": None}))
    with pytest.raises(ModelError, match="no eos_token_id: it would never end"):
        Seq2SeqReader.load(folder, GenerativeSettings("fid", max_tokens=64), machine)


@pytest.mark.parametrize(("name", "kind"), [("t5", "fid"), ("gpt2", "causal")])
def test_truncated_weights_are_refused_by_name(writer, name, kind, tmp_path):
    reader = writer(name, kind)
    reader.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or altered"):
        type(reader).load(tmp_path)


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(ValueError, match="max_tokens is 1 and max_answer_tokens 0"):
        GenerativeSettings(max_tokens=1, max_answer_tokens=0)
    with pytest.raises(ValueError, match="No generative reader is called 'extractive'"):
        replace(GenerativeSettings(), kind="extractive")


def test_memory_is_saved_by_halves_until_one_pair_is_left(writer):
    reader = writer("t5", "fid", max_tokens=64)
    sizes = [reader.micro_tokens]
    while reader.shrink():
        sizes.append(reader.micro_tokens)
    assert sizes == [4096, 2048, 1024, 512, 256, 128, 64]


@pytest.mark.parametrize(("name", "kind"), [("bart", "rag_token"), ("t5", "rag_sequence"), ("gpt2", "causal")])
def test_models_own_way_to_generate_does_not_change_the_shape_of_answers(writer, generators, name, kind, tmp_path):
    from shutil import copytree

    folder = copytree(generators(name), tmp_path / "model")
    path = folder / "generation_config.json"
    strange = {"num_return_sequences": 2, "num_beams": 2, "do_sample": True, "temperature": 0.1, "min_length": 7}
    strange |= {"return_dict_in_generate": True, "output_scores": True, "max_length": 3}
    path.write_text(json.dumps(json.loads(path.read_text()) | strange))
    reader = writer(name, kind)
    other = type(reader).load(folder, reader.settings, reader.machine)
    assert other.read_all(QUESTIONS, PASSAGES) == reader.read_all(QUESTIONS, PASSAGES)


@pytest.mark.parametrize(("name", "kind"), [*KINDS[3:6], ("bart", "rag_token"), ("gpt2", "causal")])
def test_what_is_learned_by_the_loss_is_what_decoding_writes(writer, name, kind):
    reader = writer(name, kind, max_answer_tokens=16)
    answers = ["shutil.rmtree", "square", "Paris"]
    with torch.no_grad():  # the weights were spread for other tests; small ones learn faster
        for parameter in reader.model.parameters():
            parameter.mul_(0.25 if parameter.dim() > 1 else 1)
    optimizer = torch.optim.Adam(reader.model.parameters(), lr=5e-3)
    scores, targets = leaf_scores(), reader.targets(answers)
    for _ in range(300):
        prior, present = prepared(reader, scores.detach())
        loss = reader.evidence(QUESTIONS, PASSAGES, targets, prior, present, False).nll.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    readings = reader.read_all(QUESTIONS, PASSAGES)
    assert [reading.answer.text for reading in readings] == answers
    assert all(reading.answer.score > 0.5 for reading in readings)
