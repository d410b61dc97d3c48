"""Answers from a knowledge base of 14,800 passages: SQuAD dev's questions, a reader trained on SQuADShifts.

    python benchmarks/squad_kb.py                         trains what is lacking, then answers; an hour and a half
    python benchmarks/squad_kb.py --systems bm25 hybrid   some of the systems alone
    python benchmarks/squad_kb.py --systems end2end_pdist retriever and reader together, 1 h; also _marginal, _emdr2,
                                                         and _none: the reader teaches the retriever nothing
    python benchmarks/squad_kb.py --systems minilm_tuned_longer hybrid_tuned_longer
                                                         a reader that is trained on what is found twice as long
    python benchmarks/squad_kb.py --quick                 judges the last full run again

The knowledge base holds all paragraphs of SQuAD dev and SQuADShifts, and 150 Wikipedia articles in passages of 100
words. Retriever and reader start from all-MiniLM-L6-v2, which saw questions of SQuAD *train* in its own training; here
they are trained on SQuADShifts, of which some whole articles are held out to steer by. No paragraph of SQuAD dev is
trained on, not even as a wrong passage. All models are kept in --work: a run that was stopped goes on from there.

The last line of the output is one JSON object; the exit status is 0 when all bars hold. To add a system, write its
retriever (and its reader, if it has its own) into MODELS and a row into SYSTEMS.
"""

import argparse
import datetime as dt
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _bench import report

from ragsmith.collect.exchange.record_set import RecordSet, merged, passage_id
from ragsmith.collect.exchange.source_text import stream_lines
from ragsmith.collect.exchange.squad import read_squad
from ragsmith.compute.device import Machine, probe
from ragsmith.evaluate.answers import exact_match, token_f1
from ragsmith.evaluate.significance import compare_columns, estimates
from ragsmith.learn.contrastive import ContrastiveSettings
from ragsmith.learn.dev_pool import dev_set
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverData, RetrieverSettings, train_retriever
from ragsmith.read.examples import retrieved_passages
from ragsmith.read.extractive import ExtractiveReader, ReaderSettings
from ragsmith.read.knowledge_base import KnowledgeBase
from ragsmith.read.live_index import RefreshSettings
from ragsmith.read.objectives import Objective
from ragsmith.read.questions import rag_questions
from ragsmith.read.rag_settings import RagSettings
from ragsmith.read.train_rag import RagPlan, RagRun, train_rag
from ragsmith.retrieve.build import build_index
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.mining_data import MiningData, MiningSettings
from ragsmith.retrieve.models import model_hash, resolve_model
from ragsmith.retrieve.search import Mode, Searcher

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
KEPT = Path(__file__).resolve().parent / "results" / "squad_kb.json"
WORK = ROOT / "build" / "squad_kb"
VERSIONS = ["torch", "transformers", "sentence-transformers", "bm25s"]
BASE = "package:all-MiniLM-L6-v2"
NEEDED = ("squad/dev-v1.1.json.gz", "squadshifts/new_wiki_v1.0.json.gz", "wikipedia_articles/articles.jsonl.gz")
PASSAGE_WORDS = 100
DEV_ARTICLES = 5  # of SQuADShifts' Wikipedia part, held out
BATCH_TOKENS = 4096
# Of the retriever; passages that the reader is trained with.
TUNING_RATE, TUNING_BATCH, TRAINED_PASSAGES = 2e-5, 32, 4
STEERING_POOL, STEERING_QUESTIONS = 2000, 300
# At test time: tokens of question and passage, numbers of passages and prior weights that are tried on dev.
READ_TOKENS, DEPTHS, PRIOR_WEIGHTS, RECALL_AT = 384, [1, 3, 5, 10], [0.0, 1.0, 2.0, 4.0, 8.0, 16.0], 5
READ_COLUMNS, SAVE_EVERY = ("answer", "answer_score", "seconds"), 500
SCORES = ("em", "f1", f"recall@{RECALL_AT}")
# What the reader may teach the retriever; with "none", the right passages alone do, at the same time and cost.
TAUGHT: tuple[Objective, ...] = ("none", "marginal", "emdr2", "pdist")
EM_BAR, PARAMETERS_BAR, MINUTES_BAR = 0.52, 60e6, 90
READING = ReaderSettings(max_tokens=256, max_answer_tokens=24)
# The right passage alone; the right one among wrong ones that hybrid search finds; retriever and reader together.
ALONE = RagSettings(encoders="none", objective="none", passages=1, batch_size=16)
AMONG = RagSettings(encoders="none", objective="none", passages=TRAINED_PASSAGES, search="hybrid", batch_size=8)
TOGETHER = replace(AMONG, encoders="both", contrastive_weight=0.5)
# A tenth, the default, allows no refresh within 864 steps on so many passages.
REFRESH = RefreshSettings(budget=0.2)
SPANS_LOOP, AMONG_LOOP = LoopSettings(1, 2e-4, evaluations=2), LoopSettings(1, 1e-4, evaluations=2)


@dataclass(frozen=True)
class Data:
    """The knowledge base, and questions about it.

    Attributes:
        passages: passage_id, document_id, title, text.
        questions: query_id, text, passage_id (the right one), origin, split (`train`, `dev`, `test`), cut_start,
            cut_end (both 0: nothing was made from a passage).
        answers: query_id, answers, marks; see `rag_questions`.
        trainable: ids of the passages that may be trained on, as right or as wrong ones.
    """

    passages: pd.DataFrame
    questions: pd.DataFrame
    answers: pd.DataFrame
    trainable: frozenset[str]

    @property
    def qrels(self) -> pd.DataFrame:
        """query_id, passage_id, grade."""
        return self.questions[["query_id", "passage_id"]].assign(grade=1)

    def of_split(self, split: str) -> pd.DataFrame:
        """The questions of a split."""
        return self.questions[self.questions["split"] == split]


@dataclass(frozen=True)
class System:
    """What answers: a retriever, a way of searching and a reader.

    Attributes:
        retriever, reader: of MODELS.
        mode: of searching; a retriever does nothing for `bm25`.
    """

    retriever: str
    mode: Mode
    reader: str = "reader"


SYSTEMS = {
    "bm25": System("base", "bm25"),
    "minilm": System("base", "dense"),
    "hybrid": System("base", "hybrid"),
    "minilm_tuned": System("tuned", "dense"),
    "hybrid_tuned": System("tuned", "hybrid"),
}
# As long as those that are trained together: is it the method, or the time?
LONGER = {
    "minilm_tuned_longer": System("tuned", "dense", "reader_longer"),
    "hybrid_tuned_longer": System("tuned", "hybrid", "reader_longer"),
}
# Trained together, asked for by name: each trains for a good half hour of its own.
END2END = {f"end2end_{name}": System(f"end2end_{name}", "dense", f"end2end_{name}_reader") for name in TAUGHT}
ALL = {**SYSTEMS, **LONGER, **END2END}

# What is asked of pairs, question by question: the second against the first.
PAIRS = [
    ("minilm", "minilm_tuned"),
    ("hybrid", "hybrid_tuned"),
    ("bm25", "hybrid_tuned"),
    *(("minilm_tuned", name) for name in END2END),
    *(("minilm_tuned_longer", name) for name in END2END),
    ("minilm_tuned", "minilm_tuned_longer"),
    ("hybrid_tuned", "hybrid_tuned_longer"),
    *(("end2end_none", name) for name in END2END if name != "end2end_none"),
]


@dataclass
class Bench:
    """Data and models, each made when it is first asked for.

    Attributes:
        data: see `Data`.
        work: folder that models are kept in.
        machine: device and precision.
    """

    data: Data
    work: Path
    machine: Machine
    _searchers: dict[tuple[str, bool], Searcher] = field(default_factory=dict)

    def model(self, name: str) -> Path:
        """The folder of a model, trained if it is not there yet."""
        if name == "base":
            return resolve_model(BASE)
        folder = self.work / name
        kept = folder / "made.json"
        if not kept.is_file():
            for other in TRAINED_ON.get(name, ()):
                self.model(other)  # its time is its own
            resumed = folder.exists()
            begun = time.perf_counter()
            made = MODELS[name](self, folder)
            said = {"model": str(made.relative_to(folder)), "seconds": time.perf_counter() - begun, "resumed": resumed}
            kept.write_text(json.dumps(said), "utf-8")
            print(f"{name}: {said}", flush=True)
        return folder / json.loads(kept.read_text("utf-8"))["model"]

    def training(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Per trained model among these, and those that they begin with: its seconds, and whether it was resumed."""
        steps = {step for name in names for step in (name, *TRAINED_ON.get(name, ()))} - {"base"}
        told = {step: json.loads((self.work / step / "made.json").read_text("utf-8")) for step in sorted(steps)}
        return {step: {key: one[key] for key in ("seconds", "resumed")} for step, one in told.items()}

    def searcher(self, name: str, trainable: bool = False) -> Searcher:
        """Search with a retriever in the whole knowledge base, or in what may be trained on."""
        key = (name, trainable)
        if key not in self._searchers:
            folder = self.work / "indexes" / name
            folder.mkdir(parents=True, exist_ok=True)
            model = self.model(name)
            index = DenseIndex.load(
                build_index(model, self.data.passages, self.machine, BATCH_TOKENS, folder, f"knowledge base, {name}")
            )
            passages = self.data.passages
            if trainable:
                inside = passages["passage_id"].isin(self.data.trainable).to_numpy()
                passages = passages[inside]
                index = DenseIndex(passages["passage_id"].tolist(), index.vectors[inside])
            self._searchers[key] = Searcher(Encoder.load(model, self.machine), index, passages)
        return self._searchers[key]

    def read(self, name: str, questions: pd.DataFrame, run: pd.DataFrame) -> tuple[pd.DataFrame, float]:
        """The best answer in each passage of a run by itself, and the seconds that one passage takes.

        What was read once is kept: systems find many of the same passages.

        Args:
            name: of the reader.
            questions: query_id, text.
            run: query_id, passage_id, score, rank.
        Returns:
            `run` with answer and answer_score, and the seconds per passage of all that were ever read.
        """
        folder = self.work / "read"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{name}-{model_hash(str(self.model(name)))[:12]}.parquet"
        key = ["query_id", "passage_id"]
        known = pd.read_parquet(kept) if kept.is_file() else pd.DataFrame(columns=[*key, *READ_COLUMNS])
        lacking = run[~run.set_index(key).index.isin(known.set_index(key).index)]
        asked = questions[questions["query_id"].isin(lacking["query_id"])]
        reader = ExtractiveReader.load(self.model(name), machine=self.machine)
        reader = reader.with_settings(replace(reader.settings, max_tokens=READ_TOKENS))
        for begin in range(0, len(asked), SAVE_EVERY):
            part = asked[begin : begin + SAVE_EVERY]
            shown = retrieved_passages(part, lacking.assign(rank=1), self.data.passages, 1, "score")
            begun = time.perf_counter()
            logits = reader.each_logits(part["text"].tolist(), shown, f"{name}, reading")
            found = [(one, reader.passage_spans(one)) for one in logits if one is not None]
            seconds = (time.perf_counter() - begun) / sum(len(spans) for _, spans in found)
            rows = [
                (query_id, passage.passage_id, span.text if span else "", score, seconds)
                for query_id, (one, spans) in zip(part["query_id"], found, strict=True)
                for passage, (span, score) in zip(one.passages, spans, strict=True)
            ]
            more = pd.DataFrame(rows, columns=[*key, *READ_COLUMNS])
            known = more if known.empty else pd.concat([known, more], ignore_index=True)
            known.to_parquet(kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
        return run.merge(known, on=key, how="left"), float(known["seconds"].mean())


def knowledge_base(folder: Path, seed: int = 0) -> Data:
    """All passages and questions, divided: whole articles of SQuADShifts' Wikipedia part are held out to steer by.

    Args:
        folder: that holds squad/, squadshifts/ and wikipedia_articles/.
        seed: which articles are held out.
    """
    test = read_squad(folder / "squad" / "dev-v1.1.json.gz")
    shifts = [read_squad(path) for path in sorted((folder / "squadshifts").glob("*.json.gz"))]
    wikipedia = wikipedia_passages(folder / "wikipedia_articles" / "articles.jsonl.gz")
    records = merged([test, *shifts])
    passages = pd.concat([passage_table(records), wikipedia], ignore_index=True).drop_duplicates("passage_id")
    of_test = {document.document_id for document in test.documents}
    wiki = next(found for found in shifts if any(asked.origin.startswith("new_wiki") for asked in found.questions))
    articles = sorted(document.document_id for document in wiki.documents if document.document_id not in of_test)
    held_out = set(np.random.default_rng(seed).permutation(articles)[:DEV_ARTICLES])
    document_of = dict(zip(passages["passage_id"], passages["document_id"], strict=True))
    rows, answers = [], []
    for asked in records.questions:
        if not asked.answers:
            continue
        (right,) = asked.positive_ids
        document = document_of[right]
        split = "test" if document in of_test else "dev" if document in held_out else "train"
        rows.append((asked.question_id, asked.text, right, asked.origin, split))
        marks = [(one.passage_id, one.start, one.start + len(one.text)) for one in asked.answers]
        answers.append((asked.question_id, list(dict.fromkeys(one.text for one in asked.answers)), marks))
    # An article of the same name tells of the same things: it is left out as well.
    titles = {document.title.casefold() for document in test.documents}
    barred = passages["document_id"].isin(of_test | held_out) | passages["title"].str.casefold().isin(titles)
    return Data(
        passages.reset_index(drop=True),
        pd.DataFrame(rows, columns=["query_id", "text", "passage_id", "origin", "split"]).assign(
            cut_start=0, cut_end=0
        ),
        pd.DataFrame(answers, columns=["query_id", "answers", "marks"]),
        frozenset(passages.loc[~barred, "passage_id"]),
    )


def passage_table(records: RecordSet) -> pd.DataFrame:
    """passage_id, document_id, title, text."""
    rows = [
        (passage_id(document.document_id, text), document.document_id, document.title, text)
        for document in records.documents
        for text in document.passages
    ]
    return pd.DataFrame(rows, columns=["passage_id", "document_id", "title", "text"])


def wikipedia_passages(path: Path) -> pd.DataFrame:
    """Articles in passages of `PASSAGE_WORDS` words, as `passage_table`; the last of an article is shorter."""
    rows = []
    for _, line in stream_lines(path):
        article = json.loads(line)
        words = article["text"].split()
        for number, begin in enumerate(range(0, len(words), PASSAGE_WORDS)):
            identity = f"w-{article['id']}-{number}"
            text = " ".join(words[begin : begin + PASSAGE_WORDS])
            rows.append((identity, f"w-{article['id']}", str(article["title"]), text))
    return pd.DataFrame(rows, columns=["passage_id", "document_id", "title", "text"])


def tune_retriever(bench: Bench, folder: Path) -> Path:
    """all-MiniLM-L6-v2 tuned by contrast on the training questions about Wikipedia, with mined negatives."""
    data, searcher = bench.data, bench.searcher("base", trainable=True)
    asked = about_wikipedia(bench)
    mined = mine_hard_negatives(
        MiningData(
            asked,
            searcher.encoder.encode(asked["text"].tolist(), "query"),
            {row.query_id: [row.passage_id] for row in asked.itertuples()},
            searcher.index,
            data.passages[data.passages["passage_id"].isin(data.trainable)],
        ),
        # Other paragraphs of the same article are the very ones to be told apart.
        MiningSettings(miner="hybrid", top_k=50, num_negatives=4, exclude_same_document=False),
        bench.machine,
    )
    dev = data.of_split("dev")
    settings = RetrieverSettings(
        batch_size=TUNING_BATCH,
        negatives=1,
        cut_probability=0.0,
        contrastive=ContrastiveSettings(max_passage_tokens=256),
        loop=LoopSettings(1, TUNING_RATE, evaluations=2),
    )
    vectors = searcher.encoder.encode(dev["text"].tolist(), "query")
    whole = bench.searcher("base").index
    steering = dev_set(dev, vectors, data.qrels, data.passages, whole, STEERING_POOL, seed=0)
    given = RetrieverData(asked, mined.table, data.passages, steering)
    return train_retriever(resolve_model(BASE), given, settings, bench.machine, folder).model


def train(
    bench: Bench, folder: Path, settings: RagSettings, loop: LoopSettings, asked: pd.DataFrame, begin: Path
) -> RagRun:
    """Train on these questions, from a reader: the wrong passages are what is found among those to be trained on."""
    data, passages = bench.data, bench.data.passages
    dev = data.of_split("dev")
    # Dev questions find their own articles too; what the test is about stays unseen.
    of_dev = passages.loc[passages["passage_id"].isin(dev["passage_id"]), "document_id"]
    inside = passages["passage_id"].isin(data.trainable) | passages["document_id"].isin(of_dev)
    index = folder / "trainable"
    index.mkdir(parents=True, exist_ok=True)
    found = DenseIndex(
        passages.loc[inside, "passage_id"].tolist(), bench.searcher("base").index.vectors[inside.to_numpy()]
    )
    found.save(index, model_hash(str(bench.model("base"))))
    steering = dev.sample(min(STEERING_QUESTIONS, len(dev)), random_state=0)
    return train_rag(
        ExtractiveReader.load(begin, READING, bench.machine),
        KnowledgeBase(bench.model("base"), index, passages[inside]),
        *(rag_questions(one, data.qrels, data.answers) for one in (asked, steering)),
        RagPlan(settings, REFRESH, loop, [0.0]),
        bench.machine,
        folder,
    )


def about_wikipedia(bench: Bench) -> pd.DataFrame:
    """The training questions that a search can answer: elsewhere they are about their paragraph alone."""
    asked = bench.data.of_split("train")  # "How many did he buy?"
    return asked[asked["origin"].str.startswith("new_wiki")]


def train_spans(bench: Bench, folder: Path) -> Path:
    """A reader that finds the answer in the right passage: all training questions, nothing wrong beside it."""
    return train(bench, folder, ALONE, SPANS_LOOP, bench.data.of_split("train"), resolve_model(BASE)).reader


def train_on_retrieved(epochs: int) -> Callable[[Bench, Path], Path]:
    """That reader, taught to tell the right passage from the wrong ones that hybrid search finds."""

    def trained(bench: Bench, folder: Path) -> Path:
        loop = replace(AMONG_LOOP, epochs=epochs)
        return train(bench, folder, AMONG, loop, about_wikipedia(bench), bench.model("spans")).reader

    return trained


def train_together(objective: Objective) -> Callable[[Bench, Path], Path]:
    """What trains retriever and reader together: on the questions of `train_on_retrieved`, from `spans`."""

    def trained(bench: Bench, folder: Path) -> Path:
        settings, loop = replace(TOGETHER, objective=objective), replace(AMONG_LOOP, evaluations=1)
        made = train(bench, folder, settings, loop, about_wikipedia(bench), bench.model("spans")).retriever
        if folder in made.parents:
            return made
        # The gate kept the retriever that training began with, which lies elsewhere.
        return Path(shutil.copytree(made, folder / "kept", dirs_exist_ok=True))

    return trained


def reader_of(name: str) -> Callable[[Bench, Path], Path]:
    """The reader that was trained together with this retriever."""

    def copied(bench: Bench, folder: Path) -> Path:
        bench.model(name)
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(bench.work / name / "reader", folder / "model"))

    return copied


MODELS: dict[str, Callable[[Bench, Path], Path]] = {
    "tuned": tune_retriever,
    "spans": train_spans,
    "reader": train_on_retrieved(1),
    "reader_longer": train_on_retrieved(2),
    **{f"end2end_{name}": train_together(name) for name in TAUGHT},
    **{f"end2end_{name}_reader": reader_of(f"end2end_{name}") for name in TAUGHT},
}
TRAINED_ON = {
    "reader": ("spans",),
    "reader_longer": ("spans",),
    **{f"end2end_{name}": ("spans",) for name in TAUGHT},
}  # what a model's training begins with: its time counts too


def main() -> int:
    """Measure or judge again; the exit status."""
    options = argparse.ArgumentParser(description="Answers from a knowledge base, by SQuAD dev's questions.")
    options.add_argument("--quick", action="store_true", help="judge the last full run again")
    options.add_argument("--systems", nargs="+", choices=list(ALL), default=list(SYSTEMS), help="which rows")
    options.add_argument(
        "--data", type=Path, default=DATA, help="folder with squad/, squadshifts/, wikipedia_articles/"
    )
    options.add_argument("--work", type=Path, default=WORK, help="folder that models are kept in")
    options.add_argument("--limit", type=int, help="so many test questions, drawn at random; nothing is kept then")
    arguments = options.parse_args()
    if arguments.quick:
        if not KEPT.is_file():
            print(f"There is no full run to judge: {KEPT} is missing. Run without --quick.", file=sys.stderr)
            return 2
        result = json.loads(KEPT.read_text("utf-8"))
        print(f"not measured now: the full run of {result['date']} at revision {result['revision']}")
        return judge(result)
    if missing := [name for name in NEEDED if not (arguments.data / name).is_file()]:
        print(
            f"There is no {arguments.data / missing[0]}. Give the folder that holds it with --data.", file=sys.stderr
        )
        return 2
    bench = Bench(knowledge_base(arguments.data), arguments.work, probe())
    result = measure(bench, arguments.systems, arguments.limit)
    if arguments.limit is None:
        # Rows of other systems stay: each row says when and at which revision it was measured.
        known = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else {"rows": {}}
        result["rows"] = {**known["rows"], **result["rows"]}
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(result, separators=(",", ":")) + "\n", "utf-8")
    return judge(result)


def measure(bench: Bench, systems: Sequence[str], limit: int | None) -> dict[str, Any]:
    """Scores of each test question by each system."""
    asked = bench.data.of_split("test")
    if limit is not None:
        asked = asked.sample(limit, random_state=0)
    when = {"date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "revision": revision()}
    rows = {}
    for name in systems:
        rows[name] = {**when, **answered(bench, ALL[name], asked)}
        means = {key: np.mean(rows[name][key]) for key in SCORES}
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in means.items()), flush=True)
    return {**when, "passages": len(bench.data.passages), "questions": len(asked), "rows": rows}


def answered(bench: Bench, system: System, asked: pd.DataFrame) -> dict[str, Any]:
    """What a system answers to the test questions, with the depth and the prior that were best on dev."""
    searcher = bench.searcher(system.retriever)
    dev = bench.data.of_split("dev")
    found = searcher.run(dev["query_id"].tolist(), dev["text"].tolist(), max(DEPTHS), system.mode)
    # Scores of searches have no common scale: weights are told in standard deviations.
    unit = float(found["score"].std())
    read, _ = bench.read(system.reader, dev, found)
    tried = {
        (weight / unit, depth): float(
            answer_scores(bench.data, dev, best_answers(read, weight / unit, depth))["em"].mean()
        )
        for depth in DEPTHS
        for weight in PRIOR_WEIGHTS
    }
    weight, depth = max(tried, key=lambda choice: tried[choice])
    begun = time.perf_counter()
    run = searcher.run(asked["query_id"].tolist(), asked["text"].tolist(), max(depth, RECALL_AT), system.mode)
    searched = time.perf_counter()
    read, per_passage = bench.read(system.reader, asked, run[run["rank"] <= depth])
    scores = answer_scores(bench.data, asked, best_answers(read, weight, depth))
    right = run.merge(asked[["query_id", "passage_id"]]).query("rank <= @RECALL_AT")["query_id"]
    in_right = read.merge(asked[["query_id", "passage_id"]])
    told = asked[asked["query_id"].isin(in_right["query_id"])]
    names = [system.reader] + ([] if system.mode == "bm25" else [system.retriever])
    return {
        "em": scores["em"].astype(int).tolist(),
        "f1": [round(value, 3) for value in scores["f1"]],
        f"recall@{RECALL_AT}": asked["query_id"].isin(right).astype(int).tolist(),
        "parameters": sum(parameters(bench.model(name)) for name in names),
        "training": bench.training(names),
        "search_s": searched - begun,
        "read_s": per_passage * len(read),
        "passages_read": depth,
        "prior_weight": weight * unit,
        "dev_em": {
            depth: {round(weight * unit, 4): round(em, 4) for (weight, of), em in tried.items() if of == depth}
            for depth in DEPTHS
        },
        "right_passage_read": len(told) / len(asked),
        # Of its answers in the right passage, whatever it prefers elsewhere.
        "em_in_right_passage": float(answer_scores(bench.data, told, in_right[["query_id", "answer"]])["em"].mean()),
    }


def best_answers(read: pd.DataFrame, weight: float, depth: int) -> pd.DataFrame:
    """The best answer of each question over its first passages.

    Args:
        read: query_id, rank, score (the prior), answer, answer_score.
        weight: of the prior.
        depth: passages.
    Returns:
        query_id, answer.
    """
    kept = read[read["rank"] <= depth].assign(total=lambda table: table["answer_score"] + weight * table["score"])
    return kept.loc[kept.groupby("query_id")["total"].idxmax(), ["query_id", "answer"]]


def answer_scores(data: Data, asked: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """query_id, em, f1 of the answers, in the order of the questions."""
    of_asked = data.answers[data.answers["query_id"].isin(asked["query_id"])]
    references = of_asked.set_index("query_id")["answers"]
    given = answers.set_index("query_id")["answer"].reindex(asked["query_id"]).fillna("")
    rows = [
        (query_id, exact_match(answer, references[query_id]), token_f1(answer, references[query_id]))
        for query_id, answer in given.items()
    ]
    return pd.DataFrame(rows, columns=["query_id", "em", "f1"])


def judge(result: dict[str, Any]) -> int:
    """Means with intervals, and bars, from the scores of each question."""
    systems = {}
    for name, row in result["rows"].items():
        found = estimates(pd.DataFrame({key: row[key] for key in SCORES}), seed=0)
        told = {
            key: {"mean": round(one["mean"], 4), "ci95": [round(end, 4) for end in one["ci95"]]}
            for key, one in found.items()
        }
        systems[name] = {
            **told,
            "parameters": row["parameters"],
            "train_min": round(sum(one["seconds"] for one in row["training"].values()) / 60, 1),
            "resumed": sorted(name for name, one in row["training"].items() if one["resumed"]),
            "ms_per_question": round(1000 * (row["search_s"] + row["read_s"]) / len(row["em"]), 1),
            **{key: round(row[key], 4) for key in ("right_passage_read", "em_in_right_passage", "prior_weight")},
            **{key: row[key] for key in ("passages_read", "dev_em", "date", "revision")},
        }
    best = max(systems, key=lambda name: systems[name]["em"]["mean"])
    figures = {key: result[key] for key in ("date", "revision", "passages", "questions")} | {
        "best": best,
        "systems": systems,
        "pairs": paired(result["rows"]),
    }
    bars = [
        {"name": "em_of_best", "value": systems[best]["em"]["mean"], "at_least": EM_BAR},
        {"name": "parameters_of_best", "value": systems[best]["parameters"], "at_most": PARAMETERS_BAR},
        {"name": "training_minutes_of_best", "value": systems[best]["train_min"], "at_most": MINUTES_BAR},
    ]
    return report("squad_kb", figures, bars, VERSIONS)


def paired(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """How pairs of systems differ on the same questions, with Holm's correction for all that are told together."""
    pairs = [(one, other) for one, other in PAIRS if one in rows and other in rows]
    labels = [(one, other, key) for one, other in pairs for key in SCORES]
    if not labels:
        return []
    differences = np.column_stack([np.subtract(rows[other][key], rows[one][key]) for one, other, key in labels])
    return [
        {
            "systems": [found.a, found.b],
            "score": found.metric,
            "difference": round(found.difference, 4),
            "ci95": [round(end, 4) for end in found.ci95],
            "p_holm": round(found.p_holm, 4),
        }
        for found in compare_columns(differences, labels, seed=0)
    ]


def parameters(folder: Path) -> int:
    """How many numbers a model's weights have."""
    from safetensors import safe_open

    count = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            count += sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return count


def revision() -> str:
    """The git revision of this project, with a mark when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
