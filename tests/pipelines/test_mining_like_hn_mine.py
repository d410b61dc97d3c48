"""The settings that docs/mining.md gives for them sample as FlagEmbedding's hn_mine does, as written down here."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ragsmith.compute.device import Machine
from ragsmith.pipelines.negative_mining.nodes import mining_settings
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.mining_data import Mined, MiningData

CPU = Machine("cpu", "fp32")
DOCUMENTED = Path(__file__).parents[2] / "docs/mining.md"
PASSAGES, WANTED = 40, 5


def documented() -> dict:
    """The block of parameters in docs/mining.md."""
    (block,) = re.findall(r"```yaml\n(negative_mining:\n.*?)```", DOCUMENTED.read_text("utf-8"), re.DOTALL)
    return yaml.safe_load(block)["negative_mining"]


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def corpus(queries: int, vectors: np.ndarray) -> MiningData:
    """Passages in few sections and documents, so that a rule about these would show; some queries are passages' texts.

    Every third query has two right answers, and the texts of neighbours are nearly alike.
    """
    ids = [f"p{number}" for number in range(PASSAGES)]
    passages = pd.DataFrame(
        {
            "passage_id": ids,
            "document_id": [f"d{number // 10}" for number in range(PASSAGES)],
            "title": [f"s{number // 5}" for number in range(PASSAGES)],
            "text": ["one and the same long text that goes on for many words, number " + name for name in ids],
        }
    )
    texts = [passages["text"][(number * 3) % PASSAGES] if number % 2 else f"q {number}" for number in range(queries)]
    positives = {
        f"q{number}": [ids[number % PASSAGES], ids[(number + 7) % PASSAGES]][: 1 + (number % 3 == 0)]
        for number in range(queries)
    }
    table = pd.DataFrame({"query_id": list(positives), "text": texts})
    return MiningData(table, vectors, positives, DenseIndex(ids, unit(PASSAGES, 1)), passages)


def mined(data: MiningData, low: int, high: int, wanted: int = WANTED) -> Mined:
    given = documented() | {"range_for_sampling": f"{low}-{high}", "negative_number": wanted, "audit_queries": 9999}
    return mine_hard_negatives(data, mining_settings(NegativeMiningParams.model_validate(given)), CPU)


def eligible(data: MiningData, low: int, high: int) -> dict[str, set[str]]:
    """Steps 2 and 3: ranks from `low`, zero-based, up to and without `high`, less equal texts of answers and query."""
    ids = np.asarray(data.index.passage_ids)
    text_of = dict(zip(data.passages["passage_id"], data.passages["text"], strict=True))
    found = {}
    for row, query in enumerate(data.queries.itertuples()):
        ranking = ids[np.argsort(-(data.index.vectors @ data.vectors[row]), kind="stable")]
        unwanted = {text_of[name] for name in data.positives[query.query_id]} | {query.text}
        found[query.query_id] = {name for name in ranking[low:high].tolist() if text_of[name] not in unwanted}
    return found


@pytest.mark.parametrize(("low", "high"), [(0, 12), (2, 20), (3, 200)])
def test_what_may_be_drawn_is_what_hn_mine_may_draw_and_so_many_are_drawn_of_it(low, high):
    data = corpus(30, unit(30, 2))
    found, expected = mined(data, low, high), eligible(data, low, high)
    samples = found.samples[found.samples["reason"].isin(["kept", "not_needed"])]
    offered = samples.groupby("query_id")["passage_id"].agg(set).to_dict()
    assert offered == expected and all(len(names) > WANTED for names in expected.values())
    assert len(found.table) == 30
    for row in found.table.itertuples():
        assert len(row.negative_ids) == len(set(row.negative_ids)) == WANTED
        assert set(row.negative_ids) <= expected[row.query_id]


def test_each_of_them_is_drawn_as_often_as_any_other():
    """2,000 queries with one vector and one answer: nine candidates, of which three are drawn."""
    queries = 2000
    one = np.repeat(unit(1, 3), queries, axis=0)
    data = corpus(queries, one)
    ranking = np.argsort(-(data.index.vectors @ one[0]), kind="stable")
    answer = data.index.passage_ids[ranking[4]]
    data = MiningData(
        data.queries.assign(text="q"), one, {name: [answer] for name in data.positives}, data.index, data.passages
    )
    drawn = mined(data, 2, 12, wanted=3).table["negative_ids"].explode().value_counts()
    assert set(drawn.index) == {data.index.passage_ids[row] for row in ranking[2:12]} - {answer}
    # 2000 × 3/9 each, with a standard deviation of 21.
    assert drawn.sum() == 6000 and drawn.between(667 - 105, 667 + 105).all()


def test_too_few_are_filled_up_at_random_from_the_rest_of_the_corpus():
    """Step 5, made safe: no answer, no double, nothing that was ranked above the range, and no error when it ends."""
    data, low, high = corpus(30, unit(30, 2)), 2, 5
    found, expected = mined(data, low, high), eligible(data, low, high)
    text_of = dict(zip(data.passages["passage_id"], data.passages["text"], strict=True))
    ids = np.asarray(data.index.passage_ids)
    filled = set()
    for row, query in zip(found.table.itertuples(), data.queries.itertuples(), strict=True):
        assert expected[row.query_id] <= set(row.negative_ids) and len(set(row.negative_ids)) == WANTED
        more = set(row.negative_ids) - expected[row.query_id]
        ranking = ids[np.argsort(-(data.index.vectors @ data.vectors[row.Index]), kind="stable")]
        assert not more & set(ranking[:high]) and not more & set(row.positive_ids)
        assert query.text not in {text_of[name] for name in more}
        filled |= more
    assert len(filled) > PASSAGES / 2  # by chance, and not the next in rank
    everything = mined(data, low, 200, wanted=99).table["negative_ids"]
    assert everything.map(set).tolist() == list(eligible(data, low, 200).values())
