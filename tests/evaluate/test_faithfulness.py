"""Faithfulness with real models: one whose verdict can be worked out, and one of random weights against transformers.

The first is a BERT whose weights are set by hand. Its one layer lets each token look at all others alike, so [CLS]
leaves it a little different where the word "proof" stands anywhere in the input, and the classifier makes much of
that: with "proof" the input entails, without it contradicts.
"""

import importlib.util
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.evaluate.citations import Claim
from ragsmith.evaluate.entailment import EntailmentModel
from ragsmith.evaluate.faithfulness import load_support, measure_faithfulness
from ragsmith.retrieve.models import ModelError, packaged_model

CPU = Machine("cpu", "fp32")
FILLER = "the cat sat on the mat and looked at the dog . "


def save(model, folder: Path, max_tokens: int) -> Path:
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(packaged_model("all-MiniLM-L6-v2"))
    tokenizer.model_max_length = max_tokens
    tokenizer.save_pretrained(folder)
    return folder


def config(labels, **values):
    from transformers import BertConfig

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertConfig(
        vocab_size=30522,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **{**sizes, "max_position_embeddings": 64, **values},
    )


def word_id(word: str) -> int:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(packaged_model("all-MiniLM-L6-v2")).convert_tokens_to_ids(word)


def set_by_hand(model, word: str, place: int):
    """One layer that averages all tokens; all words are alike but one."""
    import torch

    bert = model.bert
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_()
            if name.endswith("LayerNorm.weight"):
                parameter.fill_(1.0)
        usual, marked = torch.tensor([1.0, -1.0] * 4), torch.tensor([-1.0, 1.0] * 2 + [1.0, -1.0] * 2)
        bert.embeddings.word_embeddings.weight.copy_(usual.repeat(30522, 1))
        bert.embeddings.word_embeddings.weight[word_id(word)] = marked
        layer = bert.encoder.layer[0]
        for product in (layer.attention.self.value, layer.attention.output.dense):
            product.weight.copy_(torch.eye(8))
        if bert.pooler is not None:
            bert.pooler.dense.weight.copy_(torch.eye(8) * 0.5)
        # The first of two: 0 where no word is marked, above where one is. Gain and bias put 0 far on the other side.
        away = (marked - usual) / 4
        baseline = torch.tanh(usual * 0.5) @ away if bert.pooler is not None else usual @ away
        model.classifier.weight[place] = away * 1e5
        model.classifier.bias[place] = -float(baseline) * 1e5 - 10.0
    return model


@pytest.fixture(scope="session")
def proof_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification(config(["neutral", "ENTAILMENT", "contradiction"]))
    return save(set_by_hand(model, "proof", 1), tmp_path_factory.mktemp("nli") / "proof", 64)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        wide = {"hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 128, "initializer_range": 0.3}
        model = BertForSequenceClassification(config(["contradiction", "neutral", "entailment"], **wide))
    return save(model, tmp_path_factory.mktemp("nli") / "random", 128)


def claim(*passages, question="where is it", answer="there"):
    return Claim(question, answer, passages)


def test_a_passage_supports_where_the_model_says_entailment_under_whatever_name(proof_model):
    supports = load_support(str(proof_model), CPU)
    found = supports(
        [claim("this is proof ."), claim("this is nothing ."), claim("nothing", "proof"), claim("a", "b")]
    )
    assert found == pytest.approx([1, 0, 1, 0], abs=1e-3)


@pytest.mark.parametrize("place", [0.0, 0.4, 0.8, 1.0])
def test_proof_is_found_wherever_it_stands_in_a_passage_longer_than_the_model_reads(proof_model, place):
    words = (FILLER * 40).split()
    words.insert(round(place * len(words)), "proof")
    supports = load_support(str(proof_model), CPU)
    pairs = supports.pairs(claim(" ".join(words)))
    assert len(pairs) > 8
    assert supports([claim(" ".join(words)), claim(FILLER * 40)]) == pytest.approx([1, 0], abs=1e-3)


def test_windows_cover_the_passage_overlap_and_fit_beside_the_statement(proof_model):
    supports = load_support(str(proof_model), CPU)
    passage = " ".join(f"w{number}" for number in range(300))
    pairs = supports.pairs(claim(passage))
    for premise, hypothesis in pairs:
        assert hypothesis == "where is it there" and premise in passage
        assert len(supports.model.tokenizer(premise, hypothesis)["input_ids"]) <= 64
    position = 0
    for premise, _ in pairs:
        start = passage.index(premise)
        assert start <= position  # nothing between two windows
        position = start + len(premise)
    assert position == len(passage)
    assert all(first[-3:] in second for (first, _), (second, _) in itertools.pairwise(pairs))


def test_a_long_question_leaves_room_for_answer_and_passage(proof_model):
    supports = load_support(str(proof_model), CPU)
    long = claim(FILLER * 2, question="why " * 3000, answer="because " * 3000)
    pairs = supports.pairs(long)
    assert all("because" in hypothesis and len(premise) > 20 for premise, hypothesis in pairs)
    assert supports([long]) == pytest.approx([0], abs=1e-3)


def test_probabilities_are_those_of_transformers(random_model):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    passages = ["A short one.", "Line\nbreak, naïve café", "<script>alert(1)</script> \u202e x" * 3, "z"]
    claims = [claim(text, question=f"What of {place}?") for place, text in enumerate(passages * 20)]
    found = EntailmentModel.load(random_model, CPU, batch_tokens=200)(claims)
    tokenizer = AutoTokenizer.from_pretrained(random_model)
    model = AutoModelForSequenceClassification.from_pretrained(random_model).eval()
    with torch.inference_mode():
        expected = [
            torch.softmax(model(**tokenizer(c.passages[0], f"{c.question} {c.answer}", return_tensors="pt")).logits, 1)
            for c in claims
        ]
    assert found == pytest.approx([float(shares[0, 2]) for shares in expected], abs=1e-5)
    assert np.ptp(found) > 0.01


def test_support_of_a_long_passage_is_the_highest_over_its_windows(random_model):
    supports = EntailmentModel.load(random_model, CPU)
    long = claim(" ".join(f"word{number}" for number in range(200)))
    windows = [supports([claim(premise)])[0] for premise, _ in supports.pairs(long)]
    assert len(windows) > 3 and np.ptp(windows) > 1e-4
    assert supports([long])[0] == pytest.approx(max(windows), abs=1e-5)


def test_the_summary_is_that_of_the_table_over_answered_queries(proof_model):
    rows = pd.DataFrame(
        [
            ("q1", "where", "there", ["here is proof"]),
            ("q2", "where", "there", ["nothing"]),
            ("q3", "where", "", ["here is proof"]),
            ("q4", "where", "there", ["nothing", "and proof"]),
            ("q5", "where", "there", []),
        ],
        columns=["query_id", "query", "answer", "citations"],
    )
    supports = load_support(str(proof_model), CPU)
    scores, summary = measure_faithfulness(rows, supports, model="proof", samples=500, seed=0)
    assert scores["citation_recall"].tolist()[:2] == [1.0, 0.0] and scores["query_id"].tolist() == list(rows.query_id)
    assert list(summary) == ["model", "queries", "unanswered", "supported", "citation_precision", "citation_recall"]
    assert (summary["model"], summary["queries"], summary["unanswered"]) == ("proof", 4, 1)
    assert summary["supported"]["mean"] == summary["citation_recall"]["mean"] == 0.5
    assert summary["citation_precision"]["mean"] == pytest.approx((1 + 0 + 1 / 2 + 0) / 4)
    low, high = summary["citation_recall"]["ci95"]
    assert 0 <= low < 0.5 < high <= 1
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    again = measure_faithfulness(rows[::-1], supports, model="proof", samples=500, seed=0)[1]
    assert again == summary


def test_too_few_answers_are_an_error(proof_model):
    rows = pd.DataFrame({"query_id": ["a", "b"], "query": "q", "answer": ["x", ""], "citations": [["p"], ["p"]]})
    with pytest.raises(ValueError, match="1 of 2 queries have an answer"):
        measure_faithfulness(rows, load_support(str(proof_model), CPU), model="m", samples=100, seed=0)


def altered(folder: Path, target: Path, **values) -> Path:
    shutil.copytree(folder, target)
    path = target / "config.json"
    settings = json.loads(path.read_text())
    settings.update(values)
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return target


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            {"id2label": {"0": "no", "1": "not_entailment", "2": "yes"}},
            "no label 'entailment'.*'not_entailment', 'yes'",
        ),
        ({"id2label": {"0": "entailment", "1": "Entailment", "2": "x"}}, "no label 'entailment'; its labels"),
        ({"id2label": None}, "its labels: none.*such as cross-encoder/nli-deberta-v3-small"),
        ({"id2label": {"0": "entailment"}}, "no label 'entailment'; its labels: 'entailment'"),
        ({"architectures": ["BertModel"]}, "no classifier of pairs: its architecture is BertModel"),
        ({"architectures": None}, "no classifier of pairs: it names no architecture"),
    ],
)
def test_a_model_that_knows_no_entailment_is_refused_with_what_it_knows(proof_model, tmp_path, values, match):
    with pytest.raises(ModelError, match=match):
        load_support(str(altered(proof_model, tmp_path / "model", **values)), CPU)


def test_damaged_models_and_other_formats_are_refused(proof_model, tmp_path):
    def refused(match, change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(proof_model, folder)
        change(folder)
        with pytest.raises(ModelError, match=match):
            load_support(str(folder), CPU)

    refused("truncated or altered", lambda folder: (folder / "config.json").write_text("{"))
    refused("it is no JSON object", lambda folder: (folder / "config.json").write_text("[]"))
    refused("no safetensors weights", lambda folder: (folder / "model.safetensors").rename(folder / "weights.bin"))
    refused(
        "no model.safetensors beside", lambda folder: (folder / "model.safetensors").rename(folder / "x.safetensors")
    )
    weights = "model.safetensors"
    refused("truncated", lambda folder: (folder / weights).write_bytes((folder / weights).read_bytes()[:-4]))
    with pytest.raises(ModelError, match="No model at"):
        load_support("no such model", CPU)


def test_an_encoder_without_a_head_is_no_judge():
    with pytest.raises(ModelError, match="no classifier of pairs: its architecture is BertModel"):
        load_support("random:bert-2x64", CPU)


NO_LETTUCE = importlib.util.find_spec("lettucedetect") is None
needs_lettuce = pytest.mark.skipif(NO_LETTUCE, reason="the package lettucedetect is not installed")


@pytest.fixture(scope="session")
def lie_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Marks the token "lie" in an answer, wherever it stands, and no other; averaging is switched off."""
    import torch
    from transformers import BertForTokenClassification

    model = set_by_hand(
        BertForTokenClassification(config(["LABEL_0", "LABEL_1"], max_position_embeddings=512)), "lie", 1
    )
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.value.weight.zero_()
        model.classifier.weight.div_(1e4)
        model.classifier.bias[1] = 0.0
    return save(model, tmp_path_factory.mktemp("lettuce") / "lie", 512)


@needs_lettuce
def test_lettucedetect_supports_an_answer_of_which_it_marks_nothing(lie_model):
    supports = load_support(f"lettucedetect:{lie_model}", CPU)
    claims = [claim("p", answer="a fact"), claim("p", answer="a lie"), claim(FILLER * 300, answer="one lie more")]
    spans = supports.detector.predict(context=["p"], question="q", answer="a lie", output_format="spans")
    assert [span["text"] for span in spans] == ["lie"]
    assert supports(claims) == pytest.approx([1, 1 - spans[0]["confidence"], 1 - spans[0]["confidence"]], abs=1e-6)
    assert spans[0]["confidence"] > 0.9
    long = claim("p " * 50_000, "lie", question="why " * 9000, answer="fact " * 9000)
    assert supports([long]) == pytest.approx([1])


@needs_lettuce
def test_another_architecture_is_no_lettucedetect_model(proof_model):
    with pytest.raises(ModelError, match="no model of LettuceDetect: its architecture is BertForSequenceClass"):
        load_support(f"lettucedetect:{proof_model}", CPU)


@pytest.mark.skipif(not NO_LETTUCE, reason="the package lettucedetect is installed")
def test_without_the_package_the_error_has_the_command(lie_model):
    with pytest.raises(ModuleNotFoundError, match="pip install lettucedetect"):
        load_support(f"lettucedetect:{lie_model}", CPU)
