"""A file of FlagEmbedding's that a teacher has scored, from the records to the loss, with the steps themselves."""

import json
import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ragsmith.datasets import ParquetTable
from ragsmith.learn.training_data import BatchBuilder
from ragsmith.pipelines.data_collection import nodes as collection
from ragsmith.pipelines.data_collection.params import DataCollectionParams
from ragsmith.pipelines.negative_mining.nodes import mine
from ragsmith.pipelines.negative_mining.params import NegativeMiningParams
from ragsmith.pipelines.params import ComputeParams, IndexParams
from ragsmith.pipelines.query_generation import nodes as generation
from ragsmith.pipelines.query_generation.params import QueryGenerationParams
from ragsmith.pipelines.retriever_training.nodes import train
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model

ANIMALS = "ant bear cat deer eel fox goat hare ibis jay kiwi lynx mole newt owl pig".split()

TOKENS_AT_ONCE = 300


def scored_rows() -> list[dict[str, Any]]:
    """One right and two wrong texts for each animal, scored as a cross-encoder does."""
    return [
        {
            "query": f"where does the {animal} sleep",
            "pos": [f"The {animal} sleeps {place} hours in its own bed."],
            "neg": [f"Nobody fears the {animal} at {place}.", f"Some {animal} or other has eaten {place} apples."],
            "pos_scores": [4 + place / 4],
            "neg_scores": [-1 - place / 4, -4 - place / 4],
        }
        for place, animal in enumerate(ANIMALS)
    ]


@pytest.fixture
def run(tmp_path):
    """Collect, mine and train; every table passes through its file, as between the steps of a run."""

    def kept(name: str, value: Any) -> Any:
        if not isinstance(value, pd.DataFrame):
            return value
        table = ParquetTable(filepath=str(tmp_path / f"{name}.parquet"))
        table.save(value)
        return table.load()

    def all_steps(rows: list[dict[str, Any]], **params: Any) -> tuple[dict[str, Any], pd.DataFrame]:
        records, nowhere = tmp_path / "records", tmp_path / "nowhere"
        records.mkdir()
        files = {"zoo-train": rows} | {f"zoo-{one}": [{"query": one, "pos": [f"A {one}."]}] for one in ("dev", "test")}
        for name, part in files.items():
            (records / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
        model = resolve_model("random:bert-2x64")
        compute = ComputeParams(device="cpu", precision="fp32", batch_tokens=TOKENS_AT_ONCE)
        of = DataCollectionParams.model_validate({"sample": {"enabled": False}, "folder": {"enabled": False}})
        found: dict[str, Any] = {}

        def step(names: str, values: tuple[Any, ...]) -> None:
            found.update({name: kept(name, value) for name, value in zip(names.split(), values, strict=True)})

        step("documents record_passages questions _", collection.collect_documents(nowhere, records, of))
        step(
            "passages duplicates",
            collection.make_passages(found["documents"], found["record_passages"], model, of),
        )
        passages = found["passages"]
        step(
            "gold divided _",
            collection.gather_gold(nowhere, found["questions"], passages, found["duplicates"], of),
        )
        divided, gold = found["divided"], found["gold"]
        step("splits", (collection.split(found["documents"], gold, of),))
        splits = found["splits"]
        step("examples given scores _", collection.gather_examples(nowhere, divided, passages, splits, gold, of))
        index = generation.index_base(model, passages, IndexParams(), compute, tmp_path / "index")
        of_queries = QueryGenerationParams()
        step("generated", (generation.generate(passages, splits, gold, found["examples"], of_queries),))
        step(
            "queries qrels answers removed _",
            generation.filter_queries(
                found["generated"], found["examples"], gold, splits, passages, model, index, of_queries, compute
            ),
        )
        queries, qrels, given, scores = (found[name] for name in ("queries", "qrels", "given", "scores"))
        mining = NegativeMiningParams(relative_margin=None)
        (tmp_path / "mining").mkdir()
        step(
            "mined settings report samples _",
            mine(
                *(queries, qrels, passages, splits, model, index, None, nowhere, given, scores),
                *(tmp_path / "mining", mining, compute),
            ),
        )
        training = RetrieverTrainingParams.model_validate({"batch_size": 4, "num_train_epochs": 1, **params})
        (tmp_path / "training").mkdir()
        _, report, _ = train(
            *(model, index, queries, qrels, found["mined"], found["settings"], passages, splits, None, nowhere),
            *(given, scores, training, compute, tmp_path / "training"),
        )
        return report, found["mined"]

    return all_steps


@pytest.fixture
def compared(monkeypatch) -> dict[tuple[str, str], float]:
    """What the loss compares: the teacher's score of each query and passage of its own."""
    pairs: dict[tuple[str, str], float] = {}
    real = BatchBuilder.batch

    def batch(self, epoch, number):
        made = real(self, epoch, number)
        for row, column in np.argwhere(made.grouped):
            pairs[made.queries[row], made.passages[made.groups[row, column]]] = float(made.teacher[row, column])
        return made

    monkeypatch.setattr(BatchBuilder, "batch", batch)
    return pairs


def test_a_scored_file_trains_by_distillation_on_its_own_texts_and_scores_without_a_reranker(run, compared):
    rows = scored_rows()
    report, mined = run(rows, knowledge_distillation=True, train_group_size=4)
    assert [(stage["loss"], stage["examples"]) for stage in report["stages"]] == [("distillation", len(rows))]
    of_file = {
        (row["query"], text): score
        for row in rows
        for texts, scores in (("pos", "pos_scores"), ("neg", "neg_scores"))
        for text, score in zip(row[texts], row[scores], strict=True)
    }
    assert compared == of_file  # all three of each query, and nothing that was mined
    assert mined["negative_ids"].map(len).min() > 2  # which was there to be taken


def test_auto_learns_from_the_scores_of_records_also_when_it_mines_again(run, compared, monkeypatch):
    tokens_at_once, real = [], Encoder.encode

    def encode(self, *arguments, **options):
        tokens_at_once.append(self.batch_tokens)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Encoder, "encode", encode)
    report, _ = run(scored_rows(), train_group_size=4, rounds=2, query_prompt="find: ")
    assert len(tokens_at_once) > 8 and set(tokens_at_once) == {TOKENS_AT_ONCE}  # dev, gate and mining again too
    assert [stage["loss"] for stage in report["stages"]] == ["distillation", "distillation"]
    assert len(compared) == 3 * len(ANIMALS) and 0 not in compared.values()


def test_scores_say_nothing_of_a_right_passage_by_itself(run, compared, caplog):
    caplog.set_level(logging.INFO)
    report, _ = run(scored_rows(), negatives=0)
    assert [stage["loss"] for stage in report["stages"]] == ["infonce"]
    assert "16 of 16 queries have a teacher's scores, which are not used: negatives is 0" in caplog.text


def test_scores_of_some_queries_alone_are_not_used_and_the_log_counts_them(run, compared, caplog):
    caplog.set_level(logging.INFO)
    rows = scored_rows()
    for key in ("pos_scores", "neg_scores"):
        del rows[0][key]
    del rows[1]["neg_scores"]
    report, _ = run(rows, train_group_size=4)
    assert [stage["loss"] for stage in report["stages"]] == ["infonce"]
    assert "14 questions of records have them; 1 have them of some passages alone" in caplog.text
    assert "14 of 16 queries have a teacher's scores, which are not used: loss: auto" in caplog.text
    assert len(compared) > 3 * len(ANIMALS)  # the mined negatives are taken too
