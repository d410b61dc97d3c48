import json
from pathlib import Path

import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.evaluate.answer_checks import CheckSettings, check_answers, spread
from ragsmith.evaluate.conditions import Asked
from ragsmith.retrieve.models import packaged_model

CPU = Machine("cpu", "fp32")
PASSAGES = pd.DataFrame(
    {"passage_id": ["p0", "p1"], "title": ["shutil", "os"], "text": ["shutil.copy copies", "os.remove deletes"]}
)
QUERIES = pd.DataFrame({"query_id": ["q0", "q1", "q2"], "text": ["copy?", "delete?", "rename?"]})
ANSWERS = pd.DataFrame(
    {"query_id": ["q0", "q1", "q2"], "answers": [["shutil.copy"], ["os.remove", "os.unlink"], ["os.rename"]]}
)
PREDICTIONS = pd.DataFrame(
    [
        ("oracle", "q0", "shutil.copy", "p0"),
        ("retrieved", "q2", "", ""),
        ("retrieved", "q1", "os.remove", "p1"),
        ("retrieved", "q0", "os.remove", "p1"),
    ],
    columns=["condition", "query_id", "answer", "passage_id"],
)
ASKED = Asked(QUERIES, PASSAGES, pd.DataFrame(), ANSWERS)


def settings(nli=None, judge=None, limit=None):
    return CheckSettings(nli, False, judge, 3, limit, samples=200, seed=0)


@pytest.fixture(scope="module")
def tiny_nli(tmp_path_factory) -> Path:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("nli")
    tokenizer = AutoTokenizer.from_pretrained(packaged_model("all-MiniLM-L6-v2"))
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=len(tokenizer), id2label=labels, label2id={name: place for place, name in labels.items()}, **sizes
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_nothing_is_looked_at_unless_asked_for(tmp_path):
    found, table = check_answers(ASKED, PREDICTIONS, settings(), CPU, tmp_path)
    assert found == {"faithfulness": None, "judge": None}
    assert table["query_id"].tolist() == ["q0", "q1", "q2"] and list(tmp_path.iterdir()) == []


def test_only_what_is_served_is_held_against_what_it_cites(tiny_nli, tmp_path):
    from ragsmith.evaluate.citations import Claim
    from ragsmith.evaluate.faithfulness import load_support

    found, table = check_answers(ASKED, PREDICTIONS, settings(nli=tiny_nli), CPU, tmp_path)
    assert found["faithfulness"]["queries"] == 2 and found["faithfulness"]["model"] == tiny_nli.name
    rows = table.set_index("query_id")
    assert rows["citations"].to_dict() == {"q0": 1, "q1": 1, "q2": 0} and pd.isna(rows.at["q2", "supported"])
    # The claim about q0 is what was served, os.remove, beside the passage below its title.
    expected = load_support(str(tiny_nli), CPU)([Claim("copy?", "os.remove", ("os\nos.remove deletes",))])
    assert rows.at["q0", "support"] == pytest.approx(float(expected[0]), abs=1e-5)
    assert json.loads(json.dumps(found)) == found


def test_judge_sees_what_is_served_and_no_reply_is_asked_for_twice(endpoint, tmp_path):
    pytest.importorskip("openai")
    endpoint.answer = lambda body: json.dumps(
        {"reason": "r", "correct": json.loads(body["messages"][1]["content"])["question"] == "delete?"}
    )
    with endpoint.client(None) as client:
        judge = client.settings
    found, table = check_answers(ASKED, PREDICTIONS, settings(judge=judge), CPU, tmp_path)
    assert found["judge"]["correct"]["mean"] == pytest.approx(1 / 3)
    assert table.set_index("query_id")["correct"].to_dict() == {"q0": False, "q1": True, "q2": False}
    asked = len(endpoint.requests)
    assert asked == 6  # two answers, three times each; an empty one is not asked about
    again, _ = check_answers(ASKED, PREDICTIONS, settings(judge=judge), CPU, tmp_path)
    assert again == found and len(endpoint.requests) == asked


def test_a_limit_takes_answers_evenly_and_always_the_same():
    table = pd.DataFrame({"query_id": range(10)})
    assert spread(table, 5)["query_id"].tolist() == [0, 2, 4, 6, 8]
    assert len(spread(table, 3)) == 3 and spread(table, 10).equals(table) and spread(table, 99).equals(table)
