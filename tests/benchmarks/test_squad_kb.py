"""The benchmark on SQuAD's questions divides its data as it says, and runs whole on a small knowledge base."""

import gzip
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from ragsmith.compute.device import Machine
from ragsmith.learn.loop import LoopSettings
from ragsmith.read.train_rag import train_rag

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COLOURS = ["red", "green", "blue", "yellow", "black", "white", "brown", "grey"]


@pytest.fixture
def squad_kb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("squad_kb_benchmark", BENCHMARKS / "squad_kb.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "squad_kb_benchmark", module)
    spec.loader.exec_module(module)
    return module


def squad(articles: dict[str, list[str]], prefix: str, asked: bool = True) -> dict:
    """One question on each paragraph, whose answer is its last word; it stands there twice."""
    data = []
    for title, contexts in articles.items():
        paragraphs = []
        for number, context in enumerate(contexts):
            answer = context.split()[-1]
            qa = {
                "id": f"{prefix}-{title}-{number}",
                "question": f"Which colour has {title} number {number}?",
                "answers": [{"text": answer, "answer_start": context.rindex(answer)}],
            }
            paragraphs.append({"context": context, "qas": [qa] if asked else []})
        data.append({"title": title, "paragraphs": paragraphs})
    return {"data": data}


def contexts(title: str, count: int) -> list[str]:
    return [
        f"Some say {COLOURS[n % 8]} of {title} number {n}, which has the colour {COLOURS[n % 8]}" for n in range(count)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two articles to test on (one without questions), eight of Wikipedia, one of Reddit, and longer texts."""
    articles = {f"Thing_{n}": contexts(f"Thing_{n}", 4) for n in range(8)}
    files = {
        "squad/dev-v1.1.json.gz": json.dumps(
            {
                "data": squad({"Testing": contexts("Testing", 4)}, "t")["data"]
                + squad({"Silent": contexts("Silent", 2)}, "s", asked=False)["data"]
            }
        ),
        "squadshifts/new_wiki_v1.0.json.gz": json.dumps(squad(articles, "w")),
        "squadshifts/reddit_v1.0.json.gz": json.dumps(squad({"Talk": contexts("Talk", 6)}, "r")),
        "wikipedia_articles/articles.jsonl.gz": "\n".join(
            json.dumps({"id": title, "title": title, "text": " ".join(f"{title}{word}" for word in range(count))})
            for title, count in (("long", 230), ("testing", 30), ("empty", 0))
        ),
    }
    for name, text in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    return tmp_path / "data"


def test_articles_are_cut_into_passages_of_a_hundred_words(squad_kb, data: Path) -> None:
    passages = squad_kb.wikipedia_passages(data / "wikipedia_articles" / "articles.jsonl.gz")
    assert passages["passage_id"].tolist() == ["w-long-0", "w-long-1", "w-long-2", "w-testing-0"]
    assert [len(text.split()) for text in passages["text"]] == [100, 100, 30, 30]
    assert " ".join(passages["text"][:3]) == " ".join(f"long{word}" for word in range(230))


def test_every_paragraph_is_in_the_knowledge_base_and_has_its_questions(squad_kb, data: Path) -> None:
    found = squad_kb.knowledge_base(data)
    assert len(found.passages) == 4 + 2 + 8 * 4 + 6 + 4 and found.passages["passage_id"].is_unique
    assert found.questions["query_id"].is_unique and len(found.answers) == len(found.questions) == 4 + 8 * 4 + 6
    text_of = dict(zip(found.passages["passage_id"], found.passages["text"], strict=True))
    for query_id, answers, marks in found.answers.itertuples(index=False):
        ((passage_id, start, end),) = marks
        right = found.questions.set_index("query_id").at[query_id, "passage_id"]
        assert passage_id == right and [text_of[passage_id][start:end]] == answers
        assert start == text_of[passage_id].rindex(answers[0])


def test_articles_are_divided_whole_and_none_of_test_or_dev_is_trained_on(squad_kb, data: Path) -> None:
    found = squad_kb.knowledge_base(data)
    document_of = dict(zip(found.passages["passage_id"], found.passages["document_id"], strict=True))
    by_split = {
        split: {document_of[passage] for passage in questions["passage_id"]}
        for split, questions in found.questions.groupby("split")
    }
    assert {split: len(documents) for split, documents in by_split.items()} == {"dev": 5, "test": 1, "train": 4}
    assert len(set.union(*by_split.values())) == 10  # no document is in two of them
    assert set(found.of_split("test")["origin"]) == {"dev-v1.1"}
    assert not set(found.of_split("dev")["origin"]) & {"dev-v1.1", "reddit_v1.0"}
    trainable = found.passages[found.passages["passage_id"].isin(found.trainable)]
    assert set(found.of_split("train")["passage_id"]) <= found.trainable
    assert not set(trainable["document_id"]) & (by_split["dev"] | by_split["test"])
    # Neither the test article that nothing is asked about, nor a Wikipedia article of a test article's name.
    assert not set(trainable["title"]) & {"Testing", "Silent", "testing"} and "long" in set(trainable["title"])
    assert squad_kb.knowledge_base(data).trainable == found.trainable


@pytest.fixture
def small(squad_kb, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Settings for a model and data that are read in seconds."""
    monkeypatch.setattr(squad_kb, "BASE", "random:bert-2x64")
    monkeypatch.setattr(squad_kb, "DEV_ARTICLES", 2)
    monkeypatch.setattr(squad_kb, "READ_TOKENS", 64)
    monkeypatch.setattr(squad_kb, "READING", replace(squad_kb.READING, max_tokens=64, max_answer_tokens=4))
    for name in ("ALONE", "AMONG", "TOGETHER"):
        monkeypatch.setattr(squad_kb, name, replace(getattr(squad_kb, name), batch_size=4))
    for name in ("SPANS_LOOP", "AMONG_LOOP"):
        monkeypatch.setattr(squad_kb, name, LoopSettings(1, 1e-3, evaluations=1))
    monkeypatch.setattr(squad_kb, "DEPTHS", [1, 3])
    monkeypatch.setattr(squad_kb, "TUNING_BATCH", 8)
    return squad_kb


def test_training_never_sees_a_passage_of_test_nor_a_question_of_dev(
    small, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passages of dev's articles are there, for dev questions have to find them."""
    bench = small.Bench(small.knowledge_base(data), tmp_path / "work", Machine("cpu", "fp32"))
    given, epochs = [], []

    def watched(reader, base, train, dev, plan, machine, work):
        given.append((set(base.passages["passage_id"]), train, dev, plan.settings))
        epochs.append(plan.loop.epochs)
        return train_rag(reader, base, train, dev, plan, machine, work)

    monkeypatch.setattr(small, "train_rag", watched)
    bench.model("reader")
    bench.model("reader_longer")
    split_of = dict(zip(bench.data.questions["query_id"], bench.data.questions["split"], strict=True))
    passages, questions = bench.data.passages, bench.data.questions
    article_of = dict(zip(passages["passage_id"], passages["document_id"], strict=True))
    of_test = {article_of[passage_id] for passage_id in questions.loc[questions["split"] == "test", "passage_id"]}
    text_of = dict(zip(passages["passage_id"], passages["text"], strict=True))
    # First spans alone, and then among wrong passages; the longer training begins with the same spans.
    assert [settings.passages for *_, settings in given] == [1, small.TRAINED_PASSAGES, small.TRAINED_PASSAGES]
    assert epochs == [1, 1, 2] and given[2][1] == given[1][1]
    for inside, train, dev, _ in given:
        assert inside >= bench.data.trainable and not {article_of[one] for one in inside} & of_test
        assert {split_of[question.query_id] for question in train} == {"train"}
        assert {split_of[question.query_id] for question in dev} == {"dev"}
        for question in train:
            ((passage_id, start, end),) = question.marks
            assert question.right == {passage_id} and text_of[passage_id][start:end] == question.answers[0]
    wiki = {q.query_id for q in given[1][1]}
    assert wiki == set(
        questions.loc[(questions["split"] == "train") & (questions["origin"] == "new_wiki_v1.0"), "query_id"]
    )
    assert len(given[0][1]) > len(wiki) == 6 * 4


def run(
    small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict]:
    monkeypatch.setattr(sys, "argv", ["squad_kb.py", *arguments])
    status = small.main()
    return status, json.loads(capsys.readouterr().out.strip().split("\n")[-1])


def test_whole_benchmark_runs_keeps_its_rows_and_judges_them_again(
    small, data: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(small, "KEPT", tmp_path / "kept" / "squad_kb.json")
    monkeypatch.setattr(small, "probe", lambda: Machine("cpu", "fp32"))
    options = ["--data", str(data), "--work", str(tmp_path / "work")]
    status, first = run(small, monkeypatch, capsys, *options, "--systems", "bm25")
    trained = (tmp_path / "work" / "reader" / "made.json").stat().st_mtime_ns
    assert status in (0, 1) and list(first["figures"]["systems"]) == ["bm25"]
    status, both = run(small, monkeypatch, capsys, *options, "--systems", "hybrid_tuned")
    assert (tmp_path / "work" / "reader" / "made.json").stat().st_mtime_ns == trained  # kept, and not trained again
    assert list(both["figures"]["systems"]) == ["bm25", "hybrid_tuned"] and both["figures"]["questions"] == 4
    assert both["figures"]["systems"]["bm25"] == first["figures"]["systems"]["bm25"]
    rows = both["figures"]["systems"]
    assert rows["hybrid_tuned"]["parameters"] > 1.9 * rows["bm25"]["parameters"] > 0
    kept = json.loads((tmp_path / "kept" / "squad_kb.json").read_text("utf-8"))
    assert set(kept["rows"]["hybrid_tuned"]["training"]) == {"reader", "spans", "tuned"}
    assert rows["hybrid_tuned"]["resumed"] == []
    assert len(kept["rows"]["hybrid_tuned"]["em"]) == 4
    assert list(kept["rows"]["hybrid_tuned"]["dev_em"]) == ["1", "3"]
    assert 0 < kept["rows"]["hybrid_tuned"]["right_passage_read"] <= 1
    assert run(small, monkeypatch, capsys, "--quick")[1] == both
    run(small, monkeypatch, capsys, *options, "--systems", "bm25", "--limit", "2")
    assert json.loads((tmp_path / "kept" / "squad_kb.json").read_text("utf-8")) == kept


def test_bars_are_those_of_the_best_system(squad_kb, capsys) -> None:
    row = {"em": [1, 1, 0, 1], "f1": [1.0, 1.0, 0.5, 1.0], "recall@5": [1, 1, 1, 0], "parameters": 50e6}
    seconds = {"reader": {"seconds": 3600.0, "resumed": False}, "tuned": {"seconds": 600.0, "resumed": True}}
    row |= {"training": seconds, "search_s": 1.0, "read_s": 3.0, "passages_read": 5}
    row |= {
        "prior_weight": 1.0,
        "dev_em": {},
        "right_passage_read": 0.9,
        "em_in_right_passage": 0.6,
        "date": "2026",
        "revision": "x",
    }
    worse = {**row, "em": [0, 0, 0, 1], "parameters": 70e6}
    result = {"date": "2026", "revision": "x", "passages": 9, "questions": 4, "rows": {"worse": worse, "better": row}}
    assert squad_kb.judge(result) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"]["best"] == "better" and [bar["value"] for bar in told["bars"]] == [0.75, 50e6, 70.0]
    assert told["figures"]["systems"]["better"]["ms_per_question"] == 1000.0
    assert told["figures"]["systems"]["better"]["resumed"] == ["tuned"]
    result["rows"]["better"]["em"] = [0, 0, 1, 1]
    assert squad_kb.judge(result) == 1
    assert [bar["name"] for bar in json.loads(capsys.readouterr().out)["bars"] if not bar["holds"]] == ["em_of_best"]


def test_the_last_full_run_holds_its_bars_and_has_all_systems(squad_kb, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["squad_kb.py", "--quick"])
    assert squad_kb.main() == 0
    first, last = capsys.readouterr().out.strip().split("\n")
    result = json.loads(last)
    assert first.startswith("not measured now: the full run of 20") and result["figures"]["questions"] == 5665
    assert set(result["figures"]["systems"]) >= set(squad_kb.SYSTEMS) and result["figures"]["passages"] == 14777
    assert all(bar["holds"] for bar in result["bars"])


def test_missing_data_is_named(squad_kb, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["squad_kb.py", "--data", str(tmp_path)])
    assert squad_kb.main() == 2 and "dev-v1.1.json.gz" in capsys.readouterr().err
