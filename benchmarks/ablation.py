"""What each part of the retriever's training is worth: the same training with one thing changed.

    python benchmarks/ablation.py [--data data] [--variants ...]   after `kedro run`; half an hour on two cores

The tables of a finished run are read from --data and nothing there is changed. All-MiniLM-L6-v2 is trained for one
epoch on the written questions, 32 a step, as the parameters of `conf/base` have it, unless the variant says otherwise.
Figures are nDCG@10 on the dev questions after the last step, and the seconds of the training. No bar hangs on them.
"""

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from _bench import report

from ragsmith.compute.device import Machine, probe
from ragsmith.learn.contrastive import ContrastiveSettings, DevSet
from ragsmith.learn.dev_pool import dev_set
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
from ragsmith.learn.training_data import BatchBuilder, training_examples
from ragsmith.retrieve.candidate_pool import training_pool
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.mining_data import MiningData, MiningSettings
from ragsmith.retrieve.models import resolve_model

ROOT = Path(__file__).resolve().parents[1]
MODEL = "package:all-MiniLM-L6-v2"
NO_LIST = Path("no list of passages")  # all of training documents may become negatives
VERSIONS = ["torch", "transformers", "sentence-transformers"]
SETTINGS = RetrieverSettings(
    batch_size=32,
    negatives=2,
    cut_probability=0.0,
    contrastive=ContrastiveSettings(),
    loop=LoopSettings(epochs=1, learning_rate=5e-5, evaluations=1),
)
MINING = MiningSettings(exclude_same_document=False)


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        mining: which negatives there are to draw from.
        settings: how it is trained.
        kinds: `example`, `structural`, or both.
        precision: of the processor; None probes.
    """

    mining: MiningSettings = MINING
    settings: RetrieverSettings = SETTINGS
    kinds: tuple[str, ...] = ("example",)
    precision: str | None = None


def slower(rate: float, cut: float = 0.0) -> RetrieverSettings:
    """The settings with another learning rate, and sources cut from their passages so often."""
    return replace(SETTINGS, cut_probability=cut, loop=replace(SETTINGS.loop, learning_rate=rate))


VARIANTS = {
    "mined, margin 0.05 (as shipped)": Variant(),
    "mined, margin 0": Variant(replace(MINING, margins=Margins(0.0, ()))),
    "mined, no margin": Variant(replace(MINING, margins=Margins(None, ()))),
    "random negatives": Variant(replace(MINING, miner="random")),
    "no negatives but the batch's": Variant(settings=replace(SETTINGS, negatives=0)),
    "dropout 0.1": Variant(settings=replace(SETTINGS, contrastive=ContrastiveSettings(dropout=None))),
    "float32": Variant(precision="fp32"),
    "4 negatives": Variant(settings=replace(SETTINGS, negatives=4)),
    "none of the same document": Variant(replace(MINING, exclude_same_document=True)),
    "temperature 0.02": Variant(settings=replace(SETTINGS, contrastive=ContrastiveSettings(temperature=0.02))),
    "rate 2e-5": Variant(settings=slower(2e-5)),
    "passages of up to 256 tokens": Variant(
        settings=replace(SETTINGS, contrastive=ContrastiveSettings(max_passage_tokens=256))
    ),
    "batches of 128": Variant(settings=replace(SETTINGS, batch_size=128)),
    "structural queries too": Variant(kinds=("example", "structural")),
    "structural alone, rate 5e-6": Variant(settings=slower(5e-6), kinds=("structural",)),
    "structural alone, rate 5e-5": Variant(kinds=("structural",)),
    "structural alone, rate 5e-6, sources cut": Variant(settings=slower(5e-6, cut=1.0), kinds=("structural",)),
}


def main() -> int:
    """Train each variant; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="data folder of a finished run")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--quick", action="store_true", help="the first variant alone")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    tables = {
        name: pd.read_parquet(options.data / place)
        for name, place in {
            "queries": "04_feature/queries.parquet",
            "qrels": "04_feature/qrels.parquet",
            "passages": "03_primary/passages.parquet",
            "splits": "03_primary/splits.parquet",
        }.items()
    }
    index = DenseIndex.load(options.data / "06_models" / "base_index")
    steering = steering_set(tables, index)
    figures: dict[str, Any] = {}
    for name in options.variants[:1] if options.quick else options.variants:
        figures[name] = trained(VARIANTS[name], tables, index, steering)
        print(f"{name}: {figures[name]}", flush=True)
    figures["passages that sharing saves, share"] = saved_by_sharing(tables, index)
    return report("ablation", figures, [], VERSIONS)


def mined_queries(variant: Variant, tables: dict[str, pd.DataFrame], index: DenseIndex) -> tuple[Any, Any]:
    """The training queries of a variant and their negatives."""
    queries, qrels, passages, splits = (tables[name] for name in ("queries", "qrels", "passages", "splits"))
    kind = queries["kind"].where(queries["kind"] == "example", "structural")
    train = queries[(queries["split"] == "train") & kind.isin(variant.kinds)]
    right = qrels[qrels["grade"] > 0].groupby("query_id", sort=False)["passage_id"].agg(list)
    encoder = Encoder.load(resolve_model(MODEL))
    data = MiningData(
        train,
        encoder.encode(train["text"].tolist(), "query"),
        {query_id: right[query_id] for query_id in train["query_id"]},
        index,
        passages,
        training_pool(NO_LIST, passages, splits),
    )
    return train, mine_hard_negatives(data, variant.mining, probe()).table


def steering_set(tables: dict[str, pd.DataFrame], index: DenseIndex) -> DevSet:
    """The dev questions and the passages that they are searched in, the same for all variants."""
    dev = tables["queries"][tables["queries"]["split"] == "dev"]
    vectors = Encoder.load(resolve_model(MODEL)).encode(dev["text"].tolist(), "query")
    return dev_set(dev, vectors, tables["qrels"], tables["passages"], index, size=2000, seed=0)


def trained(
    variant: Variant, tables: dict[str, pd.DataFrame], index: DenseIndex, steering: DevSet
) -> dict[str, float]:
    """One training: dev nDCG@10 before and after, steps and seconds."""
    machine = Machine("cpu", variant.precision) if variant.precision else probe()
    queries, mined = mined_queries(variant, tables, index)
    data = RetrieverData(queries, mined, tables["passages"], steering)
    with tempfile.TemporaryDirectory(prefix="ablation-") as work:
        begun = time.perf_counter()
        run = train_retriever(resolve_model(MODEL), data, variant.settings, machine, Path(work))
        seconds = time.perf_counter() - begun
        log = pd.read_json(run.log, lines=True)
    scores = {row["name"]: row["ndcg@10"] for row in run.report["gate"]}
    return {
        "base": round(scores["base"], 4),
        "last": round(scores["last"], 4),
        "half base, half best": round(scores.get("average", scores["base"]), 4),
        "steps": int(log["step"].max()),
        "seconds in all": round(seconds, 1),
    }


def saved_by_sharing(tables: dict[str, pd.DataFrame], index: DenseIndex) -> float:
    """What part of an epoch's passages is not computed, because it stands in its batch already."""
    queries, mined = mined_queries(Variant(), tables, index)
    builder = BatchBuilder(training_examples(queries, mined), tables["passages"], 32, 2, 0.0, 0)
    batches = [builder.batch(0, number) for number in range(len(builder))]
    named, computed = sum(int(batch.grouped.sum()) for batch in batches), sum(len(b.passages) for b in batches)
    return round(1 - computed / named, 4)


if __name__ == "__main__":
    raise SystemExit(main())
