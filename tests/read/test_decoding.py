import copy
import threading

import pytest
import torch
from scipy.stats import chisquare

from ragsmith.read.decoding import Decoding, MarginalLogits, SharedGumbel, stream_first_row
from ragsmith.read.objectives import log_prior
from ragsmith.read.reading import ReadingPassage
from ragsmith.read.seq2seq import Seq2SeqReader

QUESTION = "How do I delete a directory?"
PASSAGES = [
    ReadingPassage("p1", "shutil.rmtree(path)", 0.6),
    ReadingPassage("p2", "math.sqrt(x) gives the square root of x", 0.2),
    ReadingPassage("p3", "Paris / France", -0.1),
]
KINDS = [
    *[(name, kind) for name in ("bart", "t5") for kind in ("rag_token", "fid")],
    ("bert_to_bert", "rag_token"),
    ("gpt2", "causal"),
    ("llama_chat", "causal"),
]


def written(reader, questions, passages):
    with torch.inference_mode():
        return reader.generate_ids(questions, passages, log_prior(*reader.scores(passages)))


# --- the slow decoder: it mixes the distributions itself, token by token, in float64 ---


def shares_of(logits):
    weights = (logits - logits.max()).exp().tolist()
    total = sum(weights)
    return [weight / total for weight in weights]


def next_tokens(reader, model, question, passages, answer):
    """p(v | x, y_<t): the mixture over the passages, or the model's own where it sees all of them."""
    seen = torch.tensor([[reader.start, *answer]])
    encoded = [torch.tensor([ids]) for ids in reader.pair_texts([question], [passages])]
    if reader.settings.kind == "fid":
        states = torch.cat([model.get_encoder()(input_ids=ids)[0][0] for ids in encoded])[None]
        return shares_of(model(encoder_outputs=(states,), decoder_input_ids=seen).logits[0, -1])
    weights = [2.718281828459045 ** (reader.settings.prior_weight * passage.score) for passage in passages]
    each = [shares_of(model(input_ids=ids, decoder_input_ids=seen).logits[0, -1]) for ids in encoded]
    prior = [weight / sum(weights) for weight in weights]
    return [sum(p * of_one[v] for p, of_one in zip(prior, each, strict=True)) for v in range(len(each[0]))]


def slow_greedy(reader, question, passages):
    model = copy.deepcopy(reader.model).double()
    answer = []
    with torch.no_grad():
        while len(answer) < reader.settings.max_answer_tokens and not (answer and answer[-1] in reader.ends):
            if reader.settings.kind == "causal":
                ids = torch.tensor([[*reader.prompt(question, passages), *answer]])
                shares = shares_of(model(input_ids=ids).logits[0, -1])
            elif not answer and reader.forced is not None:
                answer.append(reader.forced)
                continue
            else:
                shares = next_tokens(reader, model, question, passages, answer)
            answer.append(max(range(len(shares)), key=shares.__getitem__))
    return answer


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_greedy_answer_equals_that_of_the_slow_decoder(writer, name, kind, seed):
    reader = writer(name, kind, seed)
    together = written(reader, [QUESTION, "square root?"], [PASSAGES, PASSAGES[1:2]])
    assert together == [slow_greedy(reader, QUESTION, PASSAGES), slow_greedy(reader, "square root?", PASSAGES[1:2])]


@pytest.mark.parametrize("limit", [1, 3])
def test_answer_is_as_long_as_was_asked(writer, limit):
    for name, kind in [*KINDS, ("bart", "rag_sequence")]:
        (answer,) = written(writer(name, kind, max_answer_tokens=limit), [QUESTION], [PASSAGES])
        assert len(answer) <= limit and answer


def test_length_in_the_models_own_configuration_does_not_count(writer):
    reader = writer("gpt2", "causal", max_answer_tokens=6)
    reader.model.generation_config.max_length = 3
    reader.model.generation_config.min_length = 200
    assert written(reader, [QUESTION], [PASSAGES]) == [slow_greedy(reader, QUESTION, PASSAGES)]


# --- sequences ---


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rag_sequence_takes_the_candidate_with_the_highest_mixture(writer, beams, thorough, seed):
    reader = writer("bart", "rag_sequence", seed, {"num_beams": beams, "thorough": thorough})
    model = copy.deepcopy(reader.model).double()
    weights = [2.718281828459045 ** (3 * passage.score) for passage in PASSAGES]
    candidates = {}  # answer: passages that gave it
    for place, passage in enumerate(PASSAGES):
        ids = torch.tensor(reader.pair_texts([QUESTION], [[passage]]))
        with torch.no_grad():
            rows = reader.model.generate(ids, max_new_tokens=8, num_beams=beams, num_return_sequences=beams)
        for row in rows.tolist():
            candidates.setdefault(tuple(reader.ended(row[1:])), set()).add(place)
    totals = {}
    for answer, gave in candidates.items():
        totals[answer] = 0.0
        for place, passage in enumerate(PASSAGES):
            if not thorough and place not in gave:
                continue
            ids = torch.tensor(reader.pair_texts([QUESTION], [[passage]]))
            p = weights[place] / sum(weights)
            with torch.no_grad():
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[reader.start, *answer[:-1]]])).logits[0]
            for t in range(1, len(answer)):  # the first one is forced
                p *= shares_of(logits[t])[answer[t]]
            totals[answer] += p
    assert answer[0] == reader.forced
    assert written(reader, [QUESTION], [PASSAGES]) == [list(max(totals, key=totals.get))]


def test_fast_decoding_scores_an_answer_only_after_the_passages_that_gave_it(writer, monkeypatch):
    likelihoods, scored = Seq2SeqReader._likelihoods, []

    def counted(self, pairs, *more):
        scored.append(len(pairs))
        return likelihoods(self, pairs, *more)

    monkeypatch.setattr(Seq2SeqReader, "_likelihoods", counted)
    for thorough in (True, False):
        reader = writer("bart", "rag_sequence", 0, {"num_beams": 3, "thorough": thorough})
        written(reader, [QUESTION], [PASSAGES])
    every, given = scored
    assert every % len(PASSAGES) == 0 and given <= 3 * len(PASSAGES) and given < every


def test_thorough_and_fast_decoding_differ_where_an_answer_is_good_after_passages_that_did_not_give_it(writer):
    differ = 0
    for seed in range(8):
        thorough, fast = (
            written(writer("bart", "rag_sequence", seed, {"num_beams": 3, "thorough": how}), [QUESTION], [PASSAGES])
            for how in (True, False)
        )
        differ += thorough != fast
    assert 0 < differ < 8


# --- mixing ---


def test_all_copies_of_a_question_get_the_mixture():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2 * 3 * 2, 5, generator=generator)  # 2 questions, 3 passages, 2 beams
    prior = log_prior(torch.randn(2, 3, generator=generator), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool())
    mixed = MarginalLogits(prior)(torch.zeros(12, 1), scores).view(2, 3, 2, 5)
    for question in range(2):
        for beam in range(2):
            expected = [0.0] * 5
            for passage in range(3):
                shares = shares_of(scores.view(2, 3, 2, 5)[question, passage, beam].double())
                for v in range(5):
                    expected[v] += prior[question, passage].exp().item() * shares[v]
            for passage in range(3):
                assert mixed[question, passage, beam].exp().tolist() == pytest.approx(expected, rel=1e-5)


def test_token_that_is_forbidden_stays_so():
    scores = torch.tensor([[0.0, float("-inf"), 1.0], [2.0, float("-inf"), 1.0]])
    mixed = MarginalLogits(log_prior(torch.zeros(1, 2), torch.ones(1, 2).bool()))(torch.zeros(2, 1), scores)
    assert mixed[:, 1].tolist() == [float("-inf")] * 2 and torch.isfinite(mixed[:, [0, 2]]).all()


# --- sampling ---


def test_sampling_draws_the_same_token_for_all_copies():
    scores = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).repeat_interleave(3, dim=0)
    processor = SharedGumbel(Decoding(do_sample=True, seed=3), 3)
    for _ in range(20):
        drawn = processor(torch.zeros(12, 1), scores).argmax(1).view(4, 3)
        assert (drawn == drawn[:, :1]).all()
    assert len(set(drawn[:, 0].tolist())) > 1


@pytest.mark.parametrize(
    ("name", "kind"), [("bart", "rag_token"), ("t5", "fid"), ("t5", "rag_sequence"), ("gpt2", "causal")]
)
def test_seed_decides_what_is_drawn(writer, name, kind):
    def drawn(seed):
        reader = writer(name, kind, decoding={"do_sample": True, "seed": seed, "temperature": 2.0})
        return written(reader, [QUESTION, "Who?"], [PASSAGES, PASSAGES[:2]])

    torch.manual_seed(1)
    first = drawn(1)
    torch.manual_seed(2)
    assert drawn(1) == first
    assert len({str(drawn(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("forbidden", [0, 60])
@pytest.mark.parametrize("decoding", [{}, {"temperature": 3.0}, {"top_k": 4, "temperature": 3.0}, {"top_p": 0.6}])
def test_draws_follow_the_mixture(writer, decoding, forbidden):
    reader = writer("t5", "rag_token", 1, {"do_sample": True, **decoding}, max_answer_tokens=1, prior_weight=1.0)
    with torch.no_grad():
        mixture, first = (
            torch.tensor(next_tokens(reader, copy.deepcopy(reader.model).double(), QUESTION, passages, []))
            for passages in (PASSAGES, PASSAGES[:1])
        )
    # What the model's own generation_config forbids, here most that the first passage gives, is left out of the
    # mixture; left out of each passage, the first would weigh more in what remains.
    none_of = first.argsort(descending=True)[:forbidden]
    reader.model.generation_config.suppress_tokens = none_of.tolist()
    mixture[none_of] = 0
    shares = mixture ** (1 / decoding.get("temperature", 1.0))
    order = shares.argsort(descending=True)
    if k := decoding.get("top_k"):
        shares[order[k:]] = 0
    shares /= shares.sum()
    if p := decoding.get("top_p"):
        # Kept as long as those before it do not reach p.
        before = shares[order].cumsum(0) - shares[order]
        shares[order[before >= p]] = 0
    shares = (shares / shares.sum()).tolist()
    draws = 3000
    answers = written(reader, [QUESTION] * draws, [PASSAGES] * draws)
    counts = [0] * len(shares)
    for (token,) in answers:
        counts[token] += 1
    assert all(shares[token] > 0 for token, count in enumerate(counts) if count)
    # Rare tokens are taken together: the test wants five or more expected in each cell.
    common = [token for token, share in enumerate(shares) if share * draws >= 5]
    rest = 1 - sum(shares[token] for token in common)
    observed = [counts[token] for token in common]
    expected = [shares[token] * draws for token in common]
    if rest * draws >= 5:
        observed, expected = [*observed, draws - sum(observed)], [*expected, rest * draws]
    assert len(observed) > 1
    total = sum(expected) / sum(observed)
    assert chisquare([count * total for count in observed], expected).pvalue > 1e-3


def test_settings_out_of_bounds_are_all_named_at_once():
    with pytest.raises(ValueError, match=r"num_beams is 0.*temperature is 0.*top_k is -1.*top_p is 2"):
        Decoding(num_beams=0, temperature=0, top_k=-1, top_p=2)
    with pytest.raises(ValueError, match="do_sample is set with several beams: set num_beams to 1"):
        Decoding(num_beams=2, do_sample=True)


# --- streaming ---


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decoding", [{}, {"do_sample": True, "seed": 5}])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_streamed_pieces_make_the_answer(writer, name, kind, decoding, seed):
    reader = writer(name, kind, seed, decoding, max_answer_tokens=16)
    pieces = list(reader.stream(QUESTION, PASSAGES))
    assert "".join(pieces) == reader.answer(QUESTION, PASSAGES).text
    assert all(pieces)


def test_stream_comes_in_pieces_and_not_at_the_end():
    words = ["one", "two", "three"]
    going_on = threading.Event()

    def generate(streamer):
        streamer.put(torch.tensor([[9], [9]]))
        for number in range(3):
            streamer.put(torch.tensor([number, number]))
            if number == 1:
                assert going_on.wait(5)
        streamer.end()

    stream = stream_first_row(lambda ids: " ".join(words[place] for place in ids), generate)
    assert next(stream) == "one "  # "two" may yet become "twofold"
    going_on.set()
    assert list(stream) == ["two ", "three"]


def test_without_passages_nothing_is_streamed(writer):
    assert list(writer("bart", "rag_token").stream(QUESTION, [])) == []
    assert list(writer("gpt2", "causal").stream(QUESTION, [])) == []


def test_error_while_generating_reaches_who_reads_the_stream(writer, monkeypatch):
    reader = writer("t5", "rag_token")
    monkeypatch.setattr(reader.model, "generate", lambda **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(reader.stream(QUESTION, PASSAGES))

    def generate(streamer):
        for token in (0, 1, 2):
            streamer.put(torch.tensor([token]))
        raise RuntimeError("no memory")

    stream = stream_first_row(lambda ids: " ".join(map(str, ids)), generate)
    assert next(stream) == "1 "
    with pytest.raises(RuntimeError, match="no memory"):
        list(stream)


def test_abandoned_stream_stops_at_the_next_token():
    tokens = []

    def generate(streamer):
        for number in range(200_000):
            tokens.append(number)
            streamer.put(torch.tensor([number % 10]))

    stream = stream_first_row(lambda ids: "word " * min(len(ids), 5), generate)
    next(stream)
    stream.close()
    assert len(tokens) < 100_000


def test_abandoned_stream_leaves_no_thread(writer):
    reader = writer("gpt2", "causal", max_answer_tokens=100, max_tokens=150)
    reader.ends = []
    reader.model.generation_config.eos_token_id = None
    before = set(threading.enumerate())
    stream = reader.stream(QUESTION, PASSAGES)
    assert set(threading.enumerate()) == before  # nothing runs before somebody reads
    next(stream)
    stream.close()
    assert not {thread for thread in threading.enumerate() if thread.name == "generate"}


@pytest.mark.parametrize(
    ("name", "kind", "decoding"),
    [("bart", "rag_sequence", {}), ("t5", "rag_token", {"num_beams": 2}), ("gpt2", "causal", {"num_beams": 2})],
)
def test_what_is_known_at_the_end_only_cannot_be_streamed(writer, name, kind, decoding):
    with pytest.raises(ValueError, match=r"num_beams to 1"):
        writer(name, kind, decoding=decoding).stream(QUESTION, PASSAGES)
