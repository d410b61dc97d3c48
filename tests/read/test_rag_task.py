"""Losses, gradients and figures of training reader and retriever together."""

import copy
import json
import logging
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Router

from ragsmith.compute.memory import limits_of
from ragsmith.learn.embedding import set_dropout
from ragsmith.learn.loop import LoopSettings, fit, make_optimizer, train_step
from ragsmith.read import rag_task
from ragsmith.read.causal import CausalReader
from ragsmith.read.dev_answers import holds_answer
from ragsmith.read.examples import ReadingExample
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.generative import GenerativeSettings
from ragsmith.read.live_index import LiveIndex, RefreshSettings
from ragsmith.read.rag_settings import RagQuestion, RagSettings
from ragsmith.read.rag_task import RagTask
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.models import resolve_model
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.routes import separated

# The fourth stands in no passage; that of the second stands in two, and in one of them within another word first.
ROWS = [
    ("p1", "trees", "shutil.rmtree deletes a whole tree of folders, and nothing brings it back."),
    ("p2", "roots", "The squares are many; the square of three is nine."),
    ("p3", "lists", "A list is sorted in place."),
    ("p4", "squares", "Each square has four sides, and a square root is something else."),
    ("p5", "json", "json.dumps writes an object as text. json.loads reads it back again."),
    ("p6", "sleep", "time.sleep waits for so many seconds"),
]
LONG = "whole tree of folders, and nothing brings it back"  # more tokens than a span may have
ASKED = [
    RagQuestion("q1", "What does rmtree delete?", ("a whole tree", "folders"), frozenset({"p1"})),
    RagQuestion("q2", "What has four sides?", ("square",), frozenset()),
    RagQuestion("q3", "How is a list sorted?", ("in place",), frozenset({"p3"})),
    RagQuestion("q4", "What is the moon made of?", ("cheese",), frozenset()),
]
SETTINGS = RagSettings(passages=3, batch_size=4, temperature=0.1, objective_weight=0.7, teacher_temperature=2.0)


@pytest.fixture(scope="session")
def encoder_decoder(own_cache):
    return resolve_model("encoder_decoder:random:bert-2x64")


@pytest.fixture
def make_task(tiny_model, encoder_decoder, generators, machine, tmp_path):
    """A task over the six passages, and what it is made of."""

    def make(
        kind="extractive",
        settings=SETTINGS,
        train=ASKED,
        dev=ASKED,
        rows=ROWS,
        refresh=None,
        max_tokens=48,
        apart=False,
        generator="",
        longest=0,
    ) -> RagTask:
        passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
        model = load_sentence_transformer(tiny_model)
        encoder = Encoder(separated(model) if apart else model, machine)
        if apart:  # else the one in the place of the other would be seen by nobody
            torch.manual_seed(5)
            with torch.no_grad():
                for parameter in encoder.towers["query"].module.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
        start = DenseIndex(passages["passage_id"].tolist(), encoder.encode(passage_inputs(passages), "passage"))
        live = LiveIndex(encoder, start, passages, refresh or RefreshSettings(), tmp_path / "index")
        weight = 1 / settings.temperature
        if kind == "extractive":
            reader = ExtractiveReader.load(tiny_model, ReaderSettings(max_tokens, longest or 6, weight), machine)
        elif kind == "causal" or generator:
            chosen = GenerativeSettings(kind, max_tokens, longest or 8, weight)
            loader = CausalReader if kind == "causal" else Seq2SeqReader
            reader = loader.load(generators(generator or "gpt2"), chosen, machine)
        else:
            chosen = GenerativeSettings(kind, max_tokens, longest or 8, weight)
            reader = Seq2SeqReader.load(encoder_decoder, chosen, machine)
            with torch.no_grad():  # as drawn, it says nearly the same after every passage, and would teach nothing
                for parameter in reader.model.parameters():
                    parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
        return RagTask(reader, live, train, dev, settings, "base")

    return make


def gradients(task: RagTask) -> tuple[float, dict[str, float], torch.Tensor, torch.Tensor]:
    """Loss and figures of the first batch, and its gradients with respect to the retriever and the reader."""
    task.module.zero_grad(set_to_none=True)
    task.module.train()
    loss, figures = task.loss(0, 0)
    loss.backward()
    return loss.item(), figures, flat(task.encoder.model), flat(task.reader.model)


def flat(module) -> torch.Tensor:
    return torch.cat([
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten().double() for p in module.parameters()
    ])  # fmt: skip


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Whether the difference is small beside what is expected."""
    return float((found - expected).norm()) <= tolerance * float(expected.norm()) and float(expected.norm()) > 0


# --- the slow reference: double precision, one text at a time, none of the library's code ---


class Reference:
    """The loss of one batch, from the papers' formulas."""

    def __init__(self, task: RagTask, kind: str, rows=ROWS, unclear=frozenset()) -> None:
        self.kind, self.settings = kind, task.settings
        self.retriever = copy.deepcopy(task.encoder.model).double().eval()
        self.reader = copy.deepcopy(task.reader.model).double().eval()
        self.tokenizer = task.reader.tokenizer
        self.limit, self.longest = task.reader.settings.max_tokens, task.reader.settings.max_answer_tokens
        self.texts = {row[0]: f"{row[1]}\n{row[2]}" for row in rows}
        self.unclear = unclear  # query_id and passage_id that are not read together
        self.ids = list(self.texts)

    def vector(self, text: str, route: str) -> torch.Tensor:
        features = dict(self.retriever.tokenizer([text, "a longer text, so that there is padding " * 4], padding=True,
                                                 truncation=True, max_length=128, return_tensors="pt"))  # fmt: skip
        given = {"task": route} if isinstance(self.retriever[0], Router) else {}
        vector = self.retriever(features, **given)["sentence_embedding"][0]
        return vector / vector.norm()

    def loss(self, questions, objective: str, contrastive: float) -> tuple[torch.Tensor, float]:
        passages = {passage_id: self.vector(text, "document") for passage_id, text in self.texts.items()}
        if self.settings.encoders == "questions":
            passages = {passage_id: vector.detach() for passage_id, vector in passages.items()}
        queries = [self.vector(question.text, "query") for question in questions]
        found = []
        for question, query in zip(questions, queries, strict=True):
            most = self.settings.passages
            ranked = sorted(self.ids, key=lambda passage_id: -(query @ passages[passage_id]).item())[: 2 * most]
            ranked = [one for one in ranked if (question.query_id, one) not in self.unclear][:most]
            if question.right and not question.right & set(ranked):
                ranked[most - 1 :] = []
                ranked.append(min(question.right))
            found.append(ranked)
        parts, apart = [], []
        in_batch = sorted({passage_id for some in found for passage_id in some})
        for question, query, some in zip(questions, queries, found, strict=True):
            scores = torch.stack([query @ passages[passage_id] for passage_id in some]) / self.settings.temperature
            prior = scores.log_softmax(0)
            if (one := self.of_question(question, some, prior, objective)) is not None:
                parts.append(one)
            if question.right & set(in_batch):
                every = torch.stack([query @ passages[passage_id] for passage_id in in_batch])
                every = every / self.settings.temperature
                right = torch.tensor([passage_id in question.right for passage_id in in_batch])
                apart.append(every.logsumexp(0) - every[right].logsumexp(0))
        loss = torch.stack(parts).mean()
        if contrastive:
            loss = loss + contrastive * torch.stack(apart).mean()
        return loss, len(parts) / len(questions)

    def of_question(self, question, found, prior, objective) -> torch.Tensor | None:
        read = {"extractive": self.spans, "causal": self.prompted}.get(self.kind, self.written)
        shares = read(question, found)
        if shares is None:
            return None
        taught = prior if objective == "marginal" else prior.detach()
        if self.kind == "extractive" and objective != "marginal":  # all passages alike
            taught = torch.full_like(prior, -math.log(len(prior)), requires_grad=False)
        if self.kind == "extractive":  # (log of all spans, log of the right ones or minus infinity) of each passage
            every, right = (torch.stack(values) for values in zip(*shares, strict=True))
            readable = torch.isfinite(right)
            nll = (taught + every).logsumexp(0) - (taught + right)[readable].logsumexp(0)
            likelihood = (right - every).detach()
        else:  # log probability of each word of the vocabulary, at each token, after each passage
            target, whole = self.target(question), torch.stack(shares)
            likelihood = whole[:, range(len(target)), target].sum(1).detach()
            readable = torch.ones(len(found), dtype=torch.bool)
            if self.kind == "rag_token":
                nll = -self.smoothed((taught[:, None, None] + whole).logsumexp(0), target)
            elif self.kind == "rag_sequence":
                nll = -(taught + torch.stack([self.smoothed(one, target) for one in whole])).logsumexp(0)
            elif self.kind == "fid":
                nll = -self.smoothed(self.fused(question, found), target)
            else:
                nll = -self.smoothed(self.after_prompt(question, found), target)
        if objective == "emdr2":
            return nll - self.settings.objective_weight * (prior + likelihood)[readable].logsumexp(0)
        if objective == "pdist":
            target = (likelihood / self.settings.teacher_temperature)[readable].softmax(0)
            return nll + self.settings.objective_weight * (target * (target.log() - prior[readable])).sum()
        return nll

    def spans(self, question, found):
        shares, known = [], question.right & set(found) or set(found)
        for passage_id in found:
            text = self.texts[passage_id]
            tokens = self.tokenizer(question.text, text, truncation="only_second", max_length=self.limit,
                                    return_offsets_mapping=True, return_tensors="pt")  # fmt: skip
            inside = [place for place, part in enumerate(tokens.sequence_ids()) if part == 1]
            begins, ends = tokens.pop("offset_mapping")[0].T.tolist()
            output = self.reader(**tokens)
            start, end = output.start_logits[0], output.end_logits[0]
            every = [start[i] + end[j] for i in inside for j in inside if i <= j < i + self.longest]
            marked = set()
            for answer in question.answers if passage_id in known else ():
                places = [(i, j) for i in inside for j in inside if i <= j < i + self.longest
                          and text[begins[i] : ends[j]] == answer]  # fmt: skip
                marked |= set(places[:1])
            right = torch.stack([start[i] + end[j] for i, j in sorted(marked)]) if marked else torch.tensor([])
            shares.append((
                torch.stack(every).logsumexp(0),
                right.logsumexp(0) if marked else torch.tensor(-math.inf, dtype=torch.double),
            ))  # fmt: skip
        return shares if any(torch.isfinite(right) for _, right in shares) else None

    def target(self, question) -> list[int]:
        # What starts the decoder is no part of the answer (BERT's tokenizer begins with it); what ends it is.
        special = self.reader.generation_config
        ids = self.tokenizer((" " if self.kind == "causal" else "") + question.answers[0])["input_ids"]
        ids = ids[1:] if ids[0] == special.decoder_start_token_id else ids
        ids = ids[:-1] if ids[-1] == special.eos_token_id else ids
        return [*ids[: self.longest - 1], special.eos_token_id]

    def smoothed(self, log_probs, target) -> torch.Tensor:
        """Minus the cross-entropy with labels of which a share is spread over the vocabulary."""
        share, words = self.settings.label_smoothing, log_probs.shape[1]
        labels = torch.full_like(log_probs, share / words)
        labels[range(len(target)), target] += 1 - share
        return (labels * log_probs).sum()

    def log_probs(self, target, **inputs) -> torch.Tensor:
        seen = torch.tensor([[self.reader.generation_config.decoder_start_token_id, *target[:-1]]])
        return self.reader(decoder_input_ids=seen, **inputs).logits[0].log_softmax(-1)

    def composed(self, question, passage_id) -> torch.Tensor:
        ids = self.tokenizer(f"question: {question.text} context: {self.texts[passage_id]}")["input_ids"]
        assert len(ids) <= self.limit  # nothing is cut
        return torch.tensor([ids])

    def prompted(self, question, found):
        return [self.after_prompt(question, [passage_id]) for passage_id in found]

    def after_prompt(self, question, found) -> torch.Tensor:
        listed = "\n".join(f"[{number}] {self.texts[one]}" for number, one in enumerate(found, start=1))
        prompt = self.tokenizer(f"question: {question.text} context: {listed}")["input_ids"]
        assert len(prompt) <= self.limit  # nothing is cut
        target = self.target(question)
        logits = self.reader(torch.tensor([[*prompt, *target]])).logits[0].log_softmax(-1)
        return logits[len(prompt) - 1 : len(prompt) + len(target) - 1]

    def written(self, question, found):
        target = self.target(question)
        return [self.log_probs(target, input_ids=self.composed(question, passage_id)) for passage_id in found]

    def fused(self, question, found) -> torch.Tensor:
        states = [self.reader.get_encoder()(input_ids=self.composed(question, one))[0] for one in found]
        from transformers.modeling_outputs import BaseModelOutput

        return self.log_probs(self.target(question), encoder_outputs=BaseModelOutput(torch.cat(states, dim=1)))


# What the constructor refuses is left out: see test_settings_that_train_nothing_are_refused.
CASES = [
    (kind, objective, weight)
    for kind in ("extractive", "rag_token", "rag_sequence", "fid", "causal")
    for objective in ("none", "marginal", "emdr2", "pdist")
    for weight in (0.0, 0.5)
    if (objective, weight) != ("none", 0.0) and (kind in {"fid", "causal"}, objective) != (True, "marginal")
]
LIMITS = {"extractive": 48, "causal": 240}  # tokens; 96 of the others


def follows_the_formulas(task, reference, asked, objective, weight) -> tuple[float, float]:
    """Compare loss and gradients of the first batch with the reference's; the loss, and the share that can be read."""
    loss, figures, *found = gradients(task)
    order = np.random.default_rng([0, 0, 0]).permutation(4)
    expected, readable = reference.loss([asked[place] for place in order], objective, weight)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5) and figures["readable"] == readable
    assert same(found[0], flat(reference.retriever)) and same(found[1], flat(reference.reader))
    return loss, readable


@pytest.mark.parametrize(("kind", "objective", "weight"), CASES)
def test_loss_and_gradients_are_those_of_the_formulas(make_task, kind, objective, weight):
    settings = replace(SETTINGS, objective=objective, contrastive_weight=weight)
    asked = ASKED if kind == "extractive" else [replace(one, answers=one.answers[:1]) for one in ASKED]
    task = make_task(kind, settings, asked, max_tokens=LIMITS.get(kind, 96))
    _, readable = follows_the_formulas(task, Reference(task, kind), asked, objective, weight)
    assert readable == (0.75 if kind == "extractive" else 1.0)


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        ("rag_token", "marginal"),
        ("rag_token", "emdr2"),
        ("rag_sequence", "marginal"),
        ("rag_sequence", "pdist"),
        ("fid", "emdr2"),
        ("causal", "pdist"),
    ],
)
def test_smoothed_labels_give_loss_and_gradients_of_the_formulas_and_teach_unsmoothed(make_task, kind, objective):
    settings = replace(SETTINGS, objective=objective, label_smoothing=0.2)
    asked = [replace(one, answers=one.answers[:1]) for one in ASKED]
    task = make_task(kind, settings, asked, max_tokens=LIMITS.get(kind, 96))
    reference = Reference(task, kind)
    loss, _ = follows_the_formulas(task, reference, asked, objective, 0.0)
    reference.settings = replace(settings, label_smoothing=0.0)
    assert reference.loss(asked, objective, 0.0)[0].item() != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("rag_token", "marginal"), ("rag_sequence", "marginal"), ("rag_sequence", "pdist"), ("fid", "emdr2")],
)
@pytest.mark.parametrize("generator", ["t5", "bart"])
def test_generator_with_another_tokenizer_than_the_encoder_gives_loss_and_gradients_of_the_formulas(
    make_task, kind, objective, generator
):
    settings = replace(SETTINGS, objective=objective, contrastive_weight=0.5)
    asked = [replace(one, answers=one.answers[:1]) for one in ASKED]
    task = make_task(kind, settings, asked, max_tokens=128, generator=generator)
    assert len(task.reader.tokenizer) < 400 < len(task.encoder.model.tokenizer)
    follows_the_formulas(task, Reference(task, kind), asked, objective, 0.5)


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        ("extractive", "marginal"),
        ("extractive", "pdist"),
        ("rag_token", "marginal"),
        ("rag_sequence", "marginal"),
        ("rag_sequence", "emdr2"),
        ("fid", "pdist"),
        ("causal", "emdr2"),
    ],
)
def test_answers_of_one_token_give_loss_and_gradients_of_the_formulas(make_task, kind, objective):
    """A span of one token; what is written is the end mark alone."""
    settings = replace(SETTINGS, objective=objective)
    task = make_task(kind, settings, max_tokens=LIMITS.get(kind, 96), longest=1)
    _, readable = follows_the_formulas(task, Reference(task, kind), ASKED, objective, 0.0)
    assert readable == (0.25 if kind == "extractive" else 1.0)


@pytest.mark.parametrize("objective", ["marginal", "emdr2"])
def test_reader_of_spans_is_not_taught_that_an_answer_that_nobody_judged_is_wrong(make_task, objective):
    """The seventh passage holds what the first question asks for; the eighth does so for one without judgements."""
    rows = [*ROWS, ("p7", "trees", "What rmtree deletes: a whole tree."), ("p8", "four", "A square has four sides.")]
    settings = replace(SETTINGS, objective=objective, contrastive_weight=0.5)
    task = make_task(settings=settings, rows=rows)
    read = []
    task.reader.encode_all = lambda questions, texts, plain=task.reader.encode_all: (
        read.extend(zip(questions, texts, strict=True)) or plain(questions, texts)
    )
    reference = Reference(task, "extractive", rows, {("q1", "p7")})
    loss, _ = follows_the_formulas(task, reference, ASKED, objective, 0.5)
    seventh, eighth = (f"{title}\n{text}" for _, title, text in rows[6:])
    assert (ASKED[0].text, seventh) not in read and (ASKED[1].text, eighth) in read
    reference.unclear = set()
    order = np.random.default_rng([0, 0, 0]).permutation(4)
    assert reference.loss([ASKED[place] for place in order], objective, 0.5)[0].item() != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("encoders", ["questions", "both"])
@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        ("extractive", "marginal"),
        ("extractive", "pdist"),
        ("rag_token", "marginal"),
        ("rag_sequence", "marginal"),
        ("rag_sequence", "emdr2"),
        ("fid", "emdr2"),
        ("fid", "pdist"),
    ],
)
def test_loss_and_gradients_of_two_encoders_are_those_of_the_formulas(make_task, kind, objective, encoders):
    settings = replace(SETTINGS, objective=objective, contrastive_weight=0.5, encoders=encoders)
    asked = ASKED if kind == "extractive" else [replace(one, answers=one.answers[:1]) for one in ASKED]
    task = make_task(kind, settings, asked, max_tokens=48 if kind == "extractive" else 96, apart=True)
    follows_the_formulas(task, Reference(task, kind), asked, objective, 0.5)
    of_passages = flat(task.encoder.towers["passage"].module)
    assert flat(task.encoder.towers["query"].module).any() and bool(of_passages.any()) == (encoders == "both")


def test_parts_of_the_loss_are_in_the_figures_and_add_up(make_task):
    loss, figures, *_ = gradients(make_task(settings=replace(SETTINGS, objective="pdist", contrastive_weight=0.3)))
    parts = ("reader_loss", "retriever_loss", "contrastive_loss")
    assert loss == pytest.approx(sum(figures[name] for name in parts), rel=1e-6) and all(figures[n] for n in parts)
    others = {"readable", "prior_entropy", "index_version", "index_age"}
    assert set(figures) == {*parts, *others} and 0 < figures["prior_entropy"] <= 1


@pytest.mark.parametrize(("temperature", "bounds"), [(1.0, (0.9, 1.0)), (0.005, (0.2, 0.9)), (1e-6, (0.0, 0.01))])
def test_entropy_of_the_prior_is_that_of_the_formula_as_a_share_of_the_largest(make_task, temperature, bounds):
    asked = [replace(one, right=frozenset()) for one in ASKED]
    task = make_task(settings=replace(SETTINGS, temperature=temperature), train=asked)
    entropies = []
    for question in asked:
        cosines = sorted((task.index.vectors @ task.encoder.encode([question.text], "query")[0]).astype(np.float64))
        scores = np.array(cosines[-3:]) / temperature
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        entropies.append(-sum(share * math.log(share) for share in shares if share) / math.log(3))
    found = gradients(task)[1]["prior_entropy"]
    assert found == pytest.approx(np.mean(entropies), abs=1e-4) and bounds[0] <= found <= bounds[1]


def test_entropy_of_a_flat_prior_is_one(make_task):
    task = make_task()
    with torch.no_grad():  # every text gets the same vector
        for parameter in task.encoder.model.parameters():
            parameter.zero_()
    assert gradients(task)[1]["prior_entropy"] == pytest.approx(1.0, abs=1e-6)


# --- what moves ---


@pytest.mark.parametrize(
    ("settings", "moves"),
    [
        ({}, {"retriever", "reader"}),
        ({"encoders": "none", "objective": "none"}, {"reader"}),
        ({"train_reader": False, "objective": "emdr2"}, {"retriever"}),
        ({"train_reader": False, "objective": "marginal"}, {"retriever"}),
        ({"train_reader": False, "objective": "none", "contrastive_weight": 1.0}, {"retriever"}),
        ({"retriever_after": 2, "contrastive_weight": 1.0}, {"reader"}),
    ],
)
@pytest.mark.parametrize("kind", ["extractive", "rag_sequence"])
def test_only_what_is_trained_moves(make_task, kind, settings, moves):
    task = make_task(kind, replace(SETTINGS, batch_size=2, **settings), max_tokens=64)
    parts = {"retriever": task.encoder.model, "reader": task.reader.model}
    before = {part: copy.deepcopy(model.state_dict()) for part, model in parts.items()}
    loop = LoopSettings(1, 1e-3, warmup=0.0)
    optimizer = make_optimizer(task.module, loop, task.rate_factors)
    for number in range(2):
        train_step(task, optimizer, loop, task.encoder.machine, 0, number, 8)
    moved = {
        part
        for part, values in before.items()
        if any(not torch.equal(value, values[name]) for name, value in parts[part].state_dict().items())
    }
    assert moved == moves
    if "retriever_after" in settings:
        train_step(task, optimizer, loop, task.encoder.machine, 1, 0, 8)
        now = task.module["retriever"].state_dict()
        assert any(not torch.equal(value, before["retriever"][name]) for name, value in now.items())


@pytest.mark.parametrize(
    ("encoders", "moves"), [("none", set()), ("questions", {"query"}), ("both", {"query", "passage"})]
)
@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_each_encoder_moves_when_it_is_told_to_and_the_index_with_that_of_passages(
    make_task, kind, encoders, moves, tmp_path
):
    objective = "none" if encoders == "none" else "marginal"
    settings = replace(SETTINGS, batch_size=2, encoders=encoders, objective=objective)
    refresh = RefreshSettings(every=1, overlap=0.99, probe_every=1, budget=99.0)
    task = make_task(kind, settings, max_tokens=64, apart=True, refresh=refresh)
    towers = task.encoder.towers
    before = {name: copy.deepcopy(tower.module.state_dict()) for name, tower in towers.items()}
    index = task.index.vectors.copy()
    fitted = fit(task, LoopSettings(1, 1e-3, warmup=0.0, evaluations=1), task.encoder.machine, tmp_path / "fit", "rag")
    assert moves == {
        name
        for name, values in before.items()
        if any(not torch.equal(value, values[part]) for part, value in towers[name].module.state_dict().items())
    }
    assert np.array_equal(task.index.vectors, index) == ("passage" not in moves)
    assert (task.index.version > 0) == ("passage" in moves)
    log = pd.read_json(fitted.log, lines=True)
    steps = log[log["kind"] == "train"]
    if "passage" not in moves:  # never old, never made anew, never probed
        assert not steps["index_age"].any() and not steps["index_version"].any() and task.index.spent == 0
        assert np.allclose(index, task.encoder.encode(task.index.texts, "passage"), atol=1e-6)


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_resumed_training_takes_as_little_memory_as_it_had_come_to_take(make_task, kind):
    task, resumed = make_task(kind), make_task(kind)
    task.vectors.micro_tokens = task.reader.micro_tokens = 4096
    assert task.shrink()
    resumed.restore(json.loads(json.dumps(task.state())))
    for one, other in ((task.vectors, resumed.vectors), (task.reader, resumed.reader)):
        assert limits_of(other) == limits_of(one) and other.micro_tokens < 4096
    assert resumed.encoder.batch_tokens == task.encoder.batch_tokens < 4096


def test_retriever_learns_at_its_share_of_the_rate(make_task):
    loop = LoopSettings(1, 1e-3)
    both = make_task(settings=replace(SETTINGS, retriever_rate=0.25))
    factors = {group["rate_factor"] for group in make_optimizer(both.module, loop, both.rate_factors).param_groups}
    assert factors == {0.25, 1.0}
    alone = make_task(settings=replace(SETTINGS, retriever_rate=0.25, train_reader=False))
    factors = {group["rate_factor"] for group in make_optimizer(alone.module, loop, alone.rate_factors).param_groups}
    assert factors == {1.0}  # it has the rate for itself


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_reader": False, "encoders": "none"}, "Neither reader nor retriever"),
        ({"objective": "none"}, "nothing teaches it: set objective to marginal, emdr2 or pdist"),
        ({"train_reader": False, "retriever_after": 3}, "retriever_after"),
        ({"encoders": "questions", "objective": "none"}, "nothing teaches it"),
        ({"encoders": "questions"}, "shares weights with that of passages: give questions a copy of their own"),
    ],
)
def test_settings_that_train_nothing_are_refused(make_task, settings, message):
    with pytest.raises(ValueError, match=message):
        make_task(settings=replace(SETTINGS, **settings))


def test_marginal_of_a_reader_of_all_passages_is_refused(make_task):
    with pytest.raises(ValueError, match=r"marginal teaches nothing\. Set objective to emdr2"):
        make_task("fid", max_tokens=64)


# --- the same in another order of computing ---


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_two_batches_that_are_one_step_equal_one_batch_of_both(make_task, kind):
    loop = LoopSettings(1, 1e-9, clip=1e9)
    found = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        settings = replace(SETTINGS, batch_size=batch_size, accumulation=accumulation)
        asked = [*ASKED[:3], RagQuestion("q5", "What waits?", ("time.sleep",), frozenset({"p6"}))]
        asked = [replace(one, answers=one.answers[:1]) for one in asked]
        task = make_task(kind, settings, asked, max_tokens=96)
        schedule = replace(loop, accumulation=accumulation)
        optimizer = make_optimizer(task.module, schedule, task.rate_factors)
        figures = train_step(task, optimizer, schedule, task.encoder.machine, 0, 0, 1)
        assert task.done == 1
        found.append((figures["loss"], flat(task.module)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) and same(found[1][1], found[0][1])


@pytest.mark.parametrize("kind", ["extractive", "rag_token", "fid"])
def test_small_parts_that_are_computed_twice_give_the_same_gradient(make_task, kind):
    objective = "emdr2" if kind == "fid" else "marginal"
    whole = make_task(kind, replace(SETTINGS, objective=objective), max_tokens=96)
    parts = make_task(kind, replace(SETTINGS, objective=objective, micro_tokens=20, activation_gib=0.0), max_tokens=96)
    parts.reader.micro_tokens = 30
    whole.reader.micro_tokens = 10**6
    expected, found = gradients(whole), gradients(parts)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert same(found[2], expected[2]) and same(found[3], expected[3])


def test_shrinking_goes_on_until_nothing_is_left_to_give(make_task):
    task = make_task()
    steps = 0
    while task.shrink():
        steps += 1
    assert 2 < steps < 20
    assert task.vectors.micro_tokens == task.encoder.batch_tokens == task.vectors.longest
    assert task.reader.micro_tokens == task.reader.settings.max_tokens


@pytest.mark.parametrize("fails_at", [0, 1])
def test_step_that_is_tried_again_in_less_memory_counts_once_in_the_budget_of_refreshes(
    make_task, monkeypatch, fails_at
):
    settings = replace(SETTINGS, batch_size=2, accumulation=2)
    schedule = LoopSettings(1, 1e-9, accumulation=2)

    def trained(task: RagTask) -> float:
        optimizer = make_optimizer(task.module, schedule, task.rate_factors)
        train_step(task, optimizer, schedule, task.encoder.machine, 0, 0, 1)
        return task.index.trained

    expected, short = trained(make_task(settings=settings)), make_task(settings=settings)
    loss, tried = RagTask.loss, []

    def failing(self, epoch, number):
        tried.append(number)
        found = loss(self, epoch, number)
        if len(tried) == fails_at + 1:
            raise torch.OutOfMemoryError("as a card says it")
        return found

    monkeypatch.setattr(RagTask, "loss", failing)
    assert trained(short) == expected > 0
    assert tried == [*range(fails_at + 1), 0, 1]
    short.restore({})
    assert trained(short) == 2 * expected  # another training from the beginning counts again


@pytest.mark.parametrize(
    ("settings", "times"),  # of the encoder's products with questions and with passages, and of the reader's
    [
        ({}, (3, 3, 3)),
        ({"objective": "none", "contrastive_weight": 1.0}, (3, 3, 3)),
        ({"train_reader": False, "objective": "marginal"}, (3, 3, 1)),  # a frozen reader goes forward alone
        ({"train_reader": False, "objective": "pdist"}, (3, 3, 1)),
        ({"train_reader": False, "objective": "none", "contrastive_weight": 1.0}, (3, 3, 0)),  # and may not be asked
        ({"retriever_after": 1}, (1, 0, 3)),  # passages have the index's vectors as long as the retriever waits
        ({"encoders": "questions"}, (0, 0, 0)),  # nothing grows old: no budget is kept
        ({"encoders": "none", "objective": "none"}, (0, 0, 0)),
    ],
)
def test_budget_of_refreshes_counts_what_a_step_computes(make_task, settings, times):
    """All six passages are read with each of the four questions."""
    task = make_task(settings=replace(SETTINGS, passages=6, **settings), apart=True, max_tokens=64)
    task.loss(0, 0)
    count = task.encoder.model.tokenizer
    asked, read = (
        sum(len(count(text)["input_ids"]) for text in texts)
        for texts in ([question.text for question in ASKED], task.index.texts)
    )
    of_encoder, of_reader = (
        sum(p.numel() for name, p in model.named_parameters() if not name.endswith("_embeddings.weight"))
        for model in (task.encoder.towers["query"].module, task.reader.model)
    )
    parts = asked * of_encoder, read * of_encoder, (6 * asked + 4 * read) * of_reader
    assert task.index.trained == sum(many * part for many, part in zip(times, parts, strict=True))
    if "retriever_after" in settings:
        task.loss(1, 0)
        assert task.index.trained == sum(many * part for many, part in zip((4, 3, 6), parts, strict=True))


# --- what is read ---


def test_knowledge_base_smaller_than_the_passages_asked_is_read_whole(make_task):
    few = make_task(settings=replace(SETTINGS, passages=50), rows=ROWS[:2], train=ASKED[:1] * 1, dev=ASKED[:1])
    few.settings = replace(few.settings, batch_size=1)
    loss, figures, of_retriever, of_reader = gradients(few)
    reference = Reference(few, "extractive", ROWS[:2])
    expected, _ = reference.loss(ASKED[:1], "marginal", 0.0)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5) and figures["readable"] == 1.0
    assert same(of_retriever, flat(reference.retriever)) and same(of_reader, flat(reference.reader))
    assert sorted(row for row, _ in few.retrieve(ASKED[:1])[0]) == [0, 1]


@pytest.mark.parametrize("answer", ["cheese", LONG])
def test_questions_that_no_passage_answers_give_no_gradient_and_no_nan(make_task, answer):
    lost = [replace(ASKED[3], query_id=f"l{number}", answers=(answer,)) for number in range(4)]
    for objective in ("marginal", "emdr2", "pdist"):
        task = make_task(settings=replace(SETTINGS, objective=objective, passages=6), train=lost)
        loss, figures, of_retriever, of_reader = gradients(task)
        assert loss == 0.0 and figures["readable"] == 0.0
        assert not of_retriever.any() and not of_reader.any()


def test_question_that_bm25_finds_nothing_for_is_read_with_some_passage(make_task):
    task = make_task(settings=replace(SETTINGS, search="bm25"))
    assert task.retrieve([RagQuestion("x", "zzzz qqqq", ("a",))]) == [[(0, 0.0)]]
    loss, *_ = gradients(task)
    assert math.isfinite(loss)


@pytest.mark.parametrize("right_passage", [True, False])
def test_where_all_that_is_found_may_be_right_the_right_one_is_read_or_else_the_first(make_task, right_passage):
    """`The` stands in the first and the second row."""
    asked = RagQuestion("x", "rmtree square", ("a", "the", "is"), frozenset({"p5"}))
    settings = replace(SETTINGS, passages=2, search="bm25", batch_size=1, right_passage=right_passage)
    task = make_task(settings=settings, train=[asked])
    read = shown(task)
    task.loss(0, 0)
    assert read == [["p5"] if right_passage else read[0]] and len(read[0]) == (1 if right_passage else 2)
    assert right_passage or "p5" not in read[0]


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_right_passage_that_was_not_found_is_read_in_training_and_not_on_dev(make_task, kind):
    missed = RagQuestion("x", "What does rmtree delete?", ("nothing that stands anywhere",), frozenset({"p6"}))
    settings = replace(SETTINGS, passages=2, search="bm25", batch_size=1)
    for right_passage, expected in ((True, ["p1", "p6"]), (False, ["p1"])):
        task = make_task(kind, replace(settings, right_passage=right_passage), [missed], [missed])
        read = shown(task)
        task.loss(0, 0)
        assert read == [expected]
        del read[:]
        task.dev_score()
        assert read == [["p1"]]


def shown(task: RagTask) -> list[list[str]]:
    """The passages of each question that the reader of a task is given from now on."""
    read, texts = [], dict(zip(task.index.texts, task.index.passage_ids, strict=True))
    reader = task.reader
    if isinstance(reader, ExtractiveReader):
        plain = reader.encode_all
        reader.encode_all = lambda asked, given: (read.append([texts[text] for text in given]), plain(asked, given))[1]
    else:
        evidence, answer_all = reader.evidence, reader.answer_all
        reader.evidence = lambda asked, found, *rest, **named: (
            read.extend([passage.passage_id for passage in some] for some in found),
            evidence(asked, found, *rest, **named),
        )[1]
        reader.answer_all = lambda asked, found, *rest: (
            read.extend([passage.passage_id for passage in some] for some in found),
            answer_all(asked, found, *rest),
        )[1]
    return read


@pytest.mark.parametrize("kind", ["extractive", "rag_token"])
def test_stretch_that_a_question_was_taken_from_is_left_out_as_often_as_asked_and_with_the_seed(make_task, kind):
    stretch = "json.loads reads it back again."
    begin = ROWS[4][2].index(stretch)
    asked = [RagQuestion("x", stretch, ("json.dumps",), frozenset({"p5"}), source=("p5", begin, begin + len(stretch)))]
    counts = []
    for probability, seed in ((0.0, 0), (1.0, 0), (0.5, 0), (0.5, 0), (0.5, 1)):
        settings = replace(SETTINGS, passages=1, batch_size=1, cut_probability=probability, seed=seed)
        task = make_task(kind, settings, asked, max_tokens=96)
        seen = []
        name = "encode_all" if kind == "extractive" else "evidence"
        plain = getattr(task.reader, name)
        setattr(
            task.reader,
            name,
            lambda *all, seen=seen, plain=plain, **named: (seen.append(str(all)), plain(*all, **named))[1],
        )
        for epoch in range(20):
            task.loss(epoch, 0)
        counts.append([text.count(stretch) == 1 for text in seen])  # the question itself says it once
    assert (sum(counts[0]), sum(counts[1])) == (0, 20) and 4 < sum(counts[2]) < 16
    assert counts[2] == counts[3] != counts[4]


@pytest.mark.parametrize("frozen", ["retriever", "reader"])
def test_what_is_frozen_needs_no_place_in_checkpoints_and_has_no_dropout(make_task, frozen):
    changes = {"encoders": "none", "objective": "none"} if frozen == "retriever" else {"train_reader": False}
    task = make_task(settings=replace(SETTINGS, dropout=None, **changes))
    assert {name.partition(".")[0] for name in task.module.state_dict()} == {"retriever", "reader"} - {frozen}
    task.module.train()
    model = task.encoder.model if frozen == "retriever" else task.reader.model
    assert not model.training and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("generator", ["bart", "t5", "gpt2"])
def test_dropout_that_is_asked_for_is_that_of_all_layers_of_a_generator(writer, generator):
    reader = writer(generator, "causal" if generator == "gpt2" else "fid")
    ids = torch.tensor([reader.tokenizer("What does rmtree delete?")["input_ids"]])
    inputs = {"input_ids": ids} if generator == "gpt2" else {"input_ids": ids, "decoder_input_ids": ids}
    reader.model.eval()
    plain = reader.model(**inputs).logits
    reader.model.train()
    assert not torch.equal(reader.model(**inputs).logits, plain)
    set_dropout(reader.model, 0.0)
    assert torch.equal(reader.model(**inputs).logits, plain)
    set_dropout(reader.model, 0.5)
    assert not torch.equal(reader.model(**inputs).logits, plain)


def test_frozen_retriever_is_asked_once_and_one_that_moves_each_time(make_task):
    for encoders, expected in (("none", 2), ("both", 4)):
        settings = replace(SETTINGS, encoders=encoders, objective="none", contrastive_weight=1.0)
        task, searched = make_task(settings=settings), []
        plain = task.index.search
        task.index.search = lambda ids, *rest, searched=searched, plain=plain: (
            searched.append(ids),
            plain(ids, *rest),
        )[1]
        for epoch in range(2):
            task.loss(epoch, 0)
        task.dev_score()
        task.dev_score()
        assert len(searched) == expected and len(searched[0]) == 4


def test_dev_question_with_the_id_of_a_training_question_gets_passages_of_its_own(make_task):
    settings = replace(SETTINGS, encoders="none", objective="none", search="bm25", passages=1)
    dev = [replace(ASKED[2], query_id="q1")]
    task = make_task("rag_token", settings, ASKED[:1], dev, max_tokens=96)
    read = shown(task)
    assert [[ROWS[row][0] for row, _ in task.retrieve(some)[0]] for some in (ASKED[:1], dev)] == [["p1"], ["p3"]]
    task.dev_score()
    assert read == [["p3"]]


def test_guessed_right_passage_does_not_make_the_same_answer_wrong_in_others(make_task):
    """`square` stands in p2 and p4; p4 is only guessed."""
    asked = [replace(ASKED[1], right=frozenset({"p4"}), judged=judged) for judged in (True, False)]
    judged, guessed = (make_task(settings=replace(SETTINGS, passages=6, batch_size=1), train=[one]) for one in asked)
    unknown = make_task(settings=judged.settings, train=ASKED[1:2])
    losses = [gradients(task)[0] for task in (judged, guessed, unknown)]
    assert losses[1] == losses[2] < losses[0]
    few = make_task(
        settings=replace(SETTINGS, passages=2, batch_size=1, search="bm25"), train=[replace(asked[1], text="list")]
    )
    read = shown(few)
    few.loss(0, 0)
    assert read == [["p3", "p4"]]  # for the retriever it is a right passage
    assert judged.identity() != guessed.identity()


def test_accepted_answers_are_drawn_in_turn_and_with_the_seed(make_task):
    answers = ("one", "two", "three")
    asked = [replace(one, answers=answers) for one in ASKED]
    drawn = []
    for seed in (0, 0, 1):
        task = make_task("rag_token", replace(SETTINGS, seed=seed), asked, max_tokens=64)
        seen, targets = [], task.reader.targets
        task.reader.targets = lambda some, seen=seen, targets=targets: (seen.append(tuple(some)), targets(some))[1]
        for epoch in range(4):
            task.loss(epoch, 0)
        drawn.append(seen)
    assert drawn[0] == drawn[1] != drawn[2]
    assert {answer for some in drawn[0] for answer in some} == set(answers)


# --- whole trainings ---


def losses(task: RagTask, folder, **loop) -> list[float]:
    settings = LoopSettings(**{"epochs": 2, "learning_rate": 1e-3, "evaluations": 1, "patience": 99} | loop)
    fitted = fit(task, settings, task.encoder.machine, folder, "rag")
    log = pd.read_json(fitted.log, lines=True)
    return log[log["kind"] == "train"]["loss"].tolist()


def test_same_seed_gives_the_same_losses_and_another_seed_others(make_task, tmp_path):
    refresh = RefreshSettings(every=2, budget=10.0)
    found = []
    for number, seed in enumerate((0, 0, 1)):
        settings = replace(SETTINGS, batch_size=1, seed=seed, objective="emdr2")
        found.append(losses(make_task(settings=settings, refresh=refresh), tmp_path / str(number)))
    assert found[0] == found[1] != found[2] and len(found[0]) == 8


def test_log_tells_version_age_and_overlap_of_the_index(make_task, tmp_path):
    task = make_task(
        settings=replace(SETTINGS, batch_size=1), refresh=RefreshSettings(every=2, overlap=0.0, budget=10.0)
    )
    fitted = fit(task, LoopSettings(1, 1e-3, evaluations=1), task.encoder.machine, tmp_path / "fit", "rag")
    log = pd.read_json(fitted.log, lines=True)
    steps, dev = log[log["kind"] == "train"], log[log["kind"] == "dev"]
    assert steps["index_version"].tolist() == [0, 0, 1, 1] and steps["index_age"].tolist() == [0, 1, 0, 1]
    assert "index_overlap" not in steps  # nothing was probed
    assert dev["index_version"].tolist() == [0, 2] and dev["refreshes"].tolist() == [0, 2]
    assert dev["refresh_share"].tolist()[1] == pytest.approx(task.index.cost() / task.index.trained)
    assert np.array_equal(task.index.vectors, task.encoder.encode(task.index.texts, "passage"))


def test_index_is_not_made_again_before_the_encoder_of_passages_moves(make_task, tmp_path):
    task = make_task(
        settings=replace(SETTINGS, batch_size=1, retriever_after=3),
        refresh=RefreshSettings(every=1, overlap=0.9, probe_every=1, budget=10.0),
    )
    fitted = fit(task, LoopSettings(2, 1e-3, evaluations=4), task.encoder.machine, tmp_path / "fit", "rag")
    log = pd.read_json(fitted.log, lines=True)
    steps = log[log["kind"] == "train"]
    # Steps 0 to 2 leave it as it is, and the third moves it first: version 1 is that of the fourth.
    assert steps["index_version"].tolist()[:5] == [0, 0, 0, 0, 1]
    assert log.loc[log["kind"] == "dev", "refreshes"].tolist()[:5] == [0, 0, 0, 0, 1]
    assert np.array_equal(task.index.vectors, task.encoder.encode(task.index.texts, "passage"))


@pytest.mark.parametrize("first", [[0, 3], [2], [3, 1]])
def test_what_a_frozen_retriever_finds_does_not_depend_on_which_batch_asks_first(make_task, monkeypatch, first):
    """Vectors differ in their last bits with what they are computed beside; a resumed run asks in other batches."""
    monkeypatch.setattr(rag_task, "BLOCK", 3)
    task = make_task(settings=replace(SETTINGS, encoders="none", objective="none", batch_size=1), dev=[])
    asked, real = [], task.index.search

    def search(query_ids, *rest):
        asked.append(tuple(query_ids))
        return real(query_ids, *rest)

    monkeypatch.setattr(task.index, "search", search)
    task.retrieve([ASKED[place] for place in first])
    task.retrieve(ASKED)
    ids = [question.query_id for question in ASKED]
    assert sorted(asked) == sorted([tuple(ids[:3]), tuple(ids[3:])])  # each block once, as a whole


def test_retriever_alone_is_judged_by_recall_as_counted_by_hand(make_task):
    task = make_task(
        settings=replace(SETTINGS, train_reader=False, objective="none", contrastive_weight=1.0, passages=2),
    )
    assert task.metric == "recall"
    task.module.eval()
    score, figures = task.evaluate()
    found = {
        q.query_id: [ROWS[row][0] for row, _ in some] for q, some in zip(ASKED, task.retrieve(ASKED), strict=True)
    }
    words = {row[0]: re.findall(r"\w+", row[2].lower()) for row in ROWS}
    expected = [
        "p1" in found["q1"],
        any("square" in words[passage_id] for passage_id in found["q2"]),  # none is known to be right
        "p3" in found["q3"],
        False,
    ]
    assert score == np.mean(expected) and "recall" not in figures
    taught = make_task(settings=replace(SETTINGS, train_reader=False, objective="emdr2"))
    assert taught.metric == "em"


@pytest.mark.parametrize(
    ("text", "answers", "right", "held"),
    [
        ("The squares are many.", ("square",), (), False),  # part of a word is another word
        ("A SQUARE, with four sides.", ("square",), (), True),
        ("It takes time; sleep well.", ("time.sleep",), (), False),
        ("Call time.sleep(3).", ("nothing", "time.sleep"), (), True),
        ("It is empty.", (" ",), (), False),
        ("No answer here.", ("square",), ("p",), True),  # known to be right
        ("A square.", ("square",), ("another",), False),
    ],
)
def test_answer_is_held_by_a_right_passage_or_where_none_is_known_word_for_word(text, answers, right, held):
    example = ReadingExample("What?", (ReadingPassage("p", text, 0.5),), answers, frozenset(right))
    assert holds_answer(example) is held


@pytest.mark.parametrize("search", ["dense", "hybrid", "bm25"])
def test_retriever_that_answers_everything_alike_is_reported_whatever_bm25_finds(make_task, caplog, search):
    task = make_task(settings=replace(SETTINGS, passages=2, search=search))
    with torch.no_grad():  # every text gets the same vector
        for parameter in task.encoder.model.parameters():
            parameter.zero_()
    task.done = 1
    task.module.eval()
    with caplog.at_level(logging.WARNING):
        _, figures = task.evaluate()
    assert figures["same_passages"] == 1.0
    assert "100 % of the dev questions get the same passages" in caplog.text
    assert figures["prior_entropy"] == 1.0 and "All passages of the dev questions score alike" in caplog.text
    found = {frozenset(row for row, _ in some) for some in task.retrieve(ASKED)}
    assert (len(found) == 1) == (search == "dense")


def test_tiny_knowledge_base_that_is_always_read_whole_is_no_collapse(make_task, caplog):
    task = make_task(settings=replace(SETTINGS, passages=6))
    task.module.eval()
    with caplog.at_level(logging.WARNING):
        _, figures = task.evaluate()
    assert figures["same_passages"] == 1.0 and "collapsed" not in caplog.text
