"""What retriever-only training is worth on WikiQA: MAP and MRR of sentences ranked within their question.

    python benchmarks/wikiqa.py            trains three times on WikiQA train, 6 to 12 minutes on two cores
    python benchmarks/wikiqa.py --quick    judges the last full run again (benchmarks/results/wikiqa.json)

The base is all-MiniLM-L6-v2; base and tuned read the sentence alone. Settings were chosen on WikiQA dev, so is the
checkpoint in each run, and test is looked at once per seed. Training questions about articles of dev or test are left
out, which the official division does not do. The last line of the output is one JSON object; the exit status is 0 when
all bars hold.

WikiQA (Yang et al., 2015) has a research licence and is not part of this project; it is read from --data.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _bench import report

from ragsmith.collect.exchange.record_set import RecordSet, merged
from ragsmith.collect.exchange.wikiqa import read_wikiqa
from ragsmith.compute.device import probe
from ragsmith.evaluate.candidates import score_candidates
from ragsmith.evaluate.significance import compare
from ragsmith.learn.contrastive import ContrastiveSettings, DevSet
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.models import resolve_model

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
KEPT = Path(__file__).resolve().parent / "results" / "wikiqa.json"
VERSIONS = ["torch", "transformers", "sentence-transformers", "ir-measures"]
BASE = "package:all-MiniLM-L6-v2"
SEEDS = (0, 1, 2)
# Of the untouched model, as measured elsewhere too: the yardstick itself is checked first.
BASE_MAP, BASE_MRR = 0.715, 0.729
EPOCHS, LEARNING_RATE, BATCH_SIZE, NEGATIVES, TEMPERATURE = 3, 5e-5, 32, 4, 0.05


@dataclass(frozen=True)
class Tables:
    """One split of WikiQA.

    Attributes:
        queries, judged: the questions with a right sentence, as `training_examples` takes them.
        passages: all sentences; the title is the sentence's beginning, so that a model reads the sentence alone.
        candidates: query_id, passage_id, grade, of all questions.
    """

    queries: pd.DataFrame
    judged: pd.DataFrame
    passages: pd.DataFrame
    candidates: pd.DataFrame


def main() -> int:
    """Measure or judge again; the exit status."""
    options = argparse.ArgumentParser(description="Retriever-only training on WikiQA.")
    options.add_argument("--quick", action="store_true", help="judge the last full run again")
    options.add_argument("--data", type=Path, default=DATA, help="folder that holds wikiqa/")
    arguments = options.parse_args()
    if arguments.quick:
        if not KEPT.is_file():
            print(f"There is no full run to judge: {KEPT} is missing. Run without --quick.", file=sys.stderr)
            return 2
        result = json.loads(KEPT.read_text("utf-8"))
        print(f"not measured now: the full run of {result['date']} at revision {result['revision']}")
    else:
        folder = arguments.data / "wikiqa"
        if not folder.is_dir():
            print(f"There is no {folder}. Give the folder that holds wikiqa/ with --data.", file=sys.stderr)
            return 2
        result = measure(folder)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(result) + "\n", "utf-8")
    return judge(result)


def measure(folder: Path) -> dict[str, Any]:
    """Scores of each test question, untouched and tuned with each seed."""
    sets = {split: read_wikiqa(folder / f"WikiQA-{split}.tsv.gz") for split in ("train", "dev", "test")}
    judged = {document.uri for split in ("dev", "test") for document in sets[split].documents}
    train, dev, test = without(sets["train"], judged), tables(sets["dev"]), tables(sets["test"])
    base, machine = resolve_model(BASE), probe()
    untouched = Encoder.load(base, machine)
    result: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "training_questions": len(tables(train).queries),
        "base": by_query(untouched, test),
        "base_dev_map": mean(by_query(untouched, dev)["map"]),
        "seeds": [],
    }
    print(f"base: test MAP {mean(result['base']['map']):.4f}, MRR {mean(result['base']['mrr']):.4f}", flush=True)
    data = RetrieverData(tables(train).queries, tables(train).judged, tables(train).passages, steering(dev))
    for seed in SEEDS:
        settings = RetrieverSettings(
            batch_size=BATCH_SIZE,
            negatives=NEGATIVES,
            cut_probability=0.0,
            contrastive=ContrastiveSettings(temperature=TEMPERATURE),
            loop=LoopSettings(EPOCHS, LEARNING_RATE, evaluations=1, seed=seed),
        )
        with tempfile.TemporaryDirectory(prefix="wikiqa-") as work:
            begun = time.perf_counter()
            run = train_retriever(base, data, settings, machine, Path(work))
            seconds = time.perf_counter() - begun
            tuned = Encoder.load(run.model, machine)
            found = {
                "seed": seed,
                "train_s": round(seconds, 1),
                "shipped": next(row["name"] for row in run.report["gate"] if row["shipped"]),
                "dev_map": mean(by_query(tuned, dev)["map"]),
                **by_query(tuned, test),
            }
        print(
            f"seed {seed}: test MAP {mean(found['map']):.4f}, MRR {mean(found['mrr']):.4f}, {seconds:.0f} s",
            flush=True,
        )
        result["seeds"].append(found)
    return result


def judge(result: dict[str, Any]) -> int:
    """Means, differences with intervals, and bars from the scores of each question."""
    base, seeds = result["base"], result["seeds"]
    compared = [compare(long(base), long(tuned), names=("base", "tuned"), seed=0) for tuned in seeds]
    gains = [{one.metric: one for one in comparisons} for comparisons in compared]
    figures = {
        "date": result["date"],
        "revision": result["revision"],
        "test_questions": len(base["query_id"]),
        "training_questions": result["training_questions"],
        "base_map": round(mean(base["map"]), 4),
        "base_mrr": round(mean(base["mrr"]), 4),
        "base_dev_map": round(result["base_dev_map"], 4),
        "seeds": [
            {
                "seed": tuned["seed"],
                "map": round(mean(tuned["map"]), 4),
                "mrr": round(mean(tuned["mrr"]), 4),
                "map_gain": round(gain["map"].difference, 4),
                "map_gain_ci95": [round(end, 4) for end in gain["map"].ci95],
                "mrr_gain": round(gain["mrr"].difference, 4),
                "mrr_gain_ci95": [round(end, 4) for end in gain["mrr"].ci95],
                "p_holm": round(gain["map"].p_holm, 5),
                "dev_map": round(tuned["dev_map"], 4),
                "shipped": tuned["shipped"],
                "train_s": tuned["train_s"],
            }
            for tuned, gain in zip(seeds, gains, strict=True)
        ],
    }
    bars = [
        {"name": "base_map_off_by", "value": abs(mean(base["map"]) - BASE_MAP), "at_most": 0.001},
        {"name": "base_mrr_off_by", "value": abs(mean(base["mrr"]) - BASE_MRR), "at_most": 0.001},
        {"name": "least_map_gain_of_seeds", "value": min(gain["map"].difference for gain in gains), "at_least": 0.03},
        # Above 0 by more than rounding: the interval excludes 0 with every seed.
        {"name": "least_lower_end_of_ci95", "value": min(gain["map"].ci95[0] for gain in gains), "at_least": 1e-6},
        {"name": "longest_training_s", "value": max(tuned["train_s"] for tuned in seeds), "at_most": 600},
    ]
    return report("wikiqa", figures, bars, VERSIONS)


def without(records: RecordSet, uris: set[str]) -> RecordSet:
    """The records without these documents and the questions about them."""
    kept = merged([RecordSet(tuple(document for document in records.documents if document.uri not in uris))])
    known = kept.texts()
    asked = (one for one in records.questions if all(place in known for place in one.positive_ids + one.negative_ids))
    return RecordSet(kept.documents, tuple(asked))


def tables(records: RecordSet) -> Tables:
    """The records as the tables of this project."""
    answered = [asked for asked in records.questions if asked.positive_ids]
    queries = [[asked.question_id, asked.text, asked.positive_ids[0], 0, 0] for asked in answered]
    judged = [[asked.question_id, list(asked.positive_ids), list(asked.negative_ids)] for asked in answered]
    passages = [[identity, text.partition(" > ")[0], text] for identity, text in records.texts().items()]
    candidates = [
        [asked.question_id, identity, grade]
        for asked in records.questions
        for grade, identities in ((1, asked.positive_ids), (0, asked.negative_ids))
        for identity in identities
    ]
    return Tables(
        pd.DataFrame(queries, columns=["query_id", "text", "passage_id", "cut_start", "cut_end"]),
        pd.DataFrame(judged, columns=["query_id", "positive_ids", "negative_ids"]),
        pd.DataFrame(passages, columns=["passage_id", "title", "text"]),
        pd.DataFrame(candidates, columns=["query_id", "passage_id", "grade"]).assign(
            text=lambda table: table["query_id"].map({asked.question_id: asked.text for asked in records.questions})
        ),
    )


def steering(dev: Tables) -> DevSet:
    """The dev questions with a right sentence, over the sentences of all dev questions."""
    return DevSet(
        texts=dev.queries["text"].tolist(),
        relevant=[set(positives) for positives in dev.judged["positive_ids"]],
        passage_ids=dev.passages["passage_id"].tolist(),
        passages=dev.passages["text"].tolist(),
    )


def by_query(encoder: Encoder, split: Tables) -> dict[str, list[Any]]:
    """query_id, map and mrr of each question that can be judged."""
    questions = split.candidates.drop_duplicates("query_id")
    asked = dict(zip(questions["query_id"], encoder.encode(questions["text"].tolist(), "query"), strict=True))
    texts = encoder.encode(split.passages["text"].tolist(), "passage")
    said = dict(zip(split.passages["passage_id"], texts, strict=True))
    pairs = zip(split.candidates["query_id"], split.candidates["passage_id"], strict=True)
    scores = [float(np.dot(asked[query_id], said[identity])) for query_id, identity in pairs]
    wide = score_candidates(split.candidates.assign(score=scores)).pivot(
        index="query_id", columns="metric", values="value"
    )
    return {"query_id": wide.index.tolist(), "map": wide["map"].tolist(), "mrr": wide["mrr"].tolist()}


def long(scores: dict[str, Any]) -> pd.DataFrame:
    """query_id, metric, value."""
    return pd.DataFrame(scores)[["query_id", "map", "mrr"]].melt("query_id", var_name="metric")


def mean(values: list[float]) -> float:
    """Their mean."""
    return float(np.mean(values))


def revision() -> str:
    """The git revision of this project, with a mark when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
