"""The knowledge base that is searched while its encoder changes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ragsmith.read.live_index import LiveIndex, RefreshSettings, check_passages, weights_of
from ragsmith.retrieve.hnsw import HnswSettings
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.passage_text import passage_inputs

QUESTIONS = ["What colour is the car in Ulm?", "And the one in Kiel?", "gold", "The car that is old"]


def move(live: LiveIndex, by: float, seed: int = 0) -> None:
    """Add noise to the encoder's weights, as a step of training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in live.encoder.model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


def fresh(live: LiveIndex) -> np.ndarray:
    """All passages, by sentence-transformers itself, with the weights as they are."""
    live.encoder.model.eval()
    return live.encoder.model.encode(live.texts, normalize_embeddings=True, show_progress_bar=False)


def affordable(live: LiveIndex, refreshes: float) -> None:
    """Report so much training that the budget allows so many refreshes."""
    live.note_training(refreshes * live.cost() / live.settings.budget)


def versions(live: LiveIndex) -> list[str]:
    return sorted(path.name for path in live.folder.iterdir())


# --- what a refresh gives ---


def test_refreshed_vectors_are_those_of_a_fresh_encode_with_the_live_weights(live_index):
    live = live_index()
    before = live.vectors
    move(live, 0.1)
    live.refresh(3)
    assert np.array_equal(live.vectors, live.encoder.encode(live.texts, "passage"))
    np.testing.assert_allclose(live.vectors, fresh(live), atol=1e-5)
    assert np.abs(live.vectors - before).max() > 0.01
    assert (live.version, live.at_step, live.refreshes) == (1, 3, 1)


def test_texts_and_rows_are_in_the_order_of_the_index(live_index, town_base, machine, tmp_path):
    start = DenseIndex.load(town_base.index)
    turned = DenseIndex(start.passage_ids[::-1], np.ascontiguousarray(start.vectors[::-1]))
    live = LiveIndex(live_index().encoder, turned, town_base.passages, RefreshSettings(), tmp_path / "turned")
    text_of = dict(zip(town_base.passages["passage_id"], passage_inputs(town_base.passages), strict=True))
    assert live.texts == [text_of[passage_id] for passage_id in turned.passage_ids]
    live.refresh(1)
    np.testing.assert_allclose(live.vectors, turned.vectors, atol=1e-5)
    assert live.row_of["p1"] == 11


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_search_sees_the_version_in_use_in_each_mode(live_index, mode):
    live = live_index()
    move(live, 0.3)
    live.refresh(1)
    run = live.search(["a", "b", "c", "d"], QUESTIONS, 5, mode)
    queries = live.encoder.encode(QUESTIONS, "query")
    cosines = queries @ fresh(live).T
    for name, row in zip("abcd", cosines, strict=True):
        found = run[run["query_id"] == name]
        expected = [row[live.row_of[passage_id]] for passage_id in found["passage_id"]]
        np.testing.assert_allclose(found["cosine"], expected, atol=1e-5)
        if mode == "dense":
            assert list(found["passage_id"]) == [live.passage_ids[place] for place in np.argsort(-row)[:5]]


@pytest.mark.parametrize("where", [False, True])
def test_log_says_how_long_training_waited_for_a_version_and_what_share_refreshes_have(live_index, caplog, where):
    live = live_index(every=2, overlap=0.0, budget=0.5, background=where, lag=1)
    live.note_training(4 * live.cost())
    with caplog.at_level("INFO"):
        live.before_step(2, QUESTIONS)
        live.before_step(3, QUESTIONS)
    assert live.version == 1 and live.seconds > 0
    said = f"index: version 1, of step 2: training waited {live.seconds:.1f} s, {live.seconds:.1f} s so far"
    assert f"{said}; refreshes within the budget took 25.0 % of the computation" in caplog.text


# --- when it is due ---


def test_refresh_by_steps_comes_every_so_many_steps_and_never_at_the_first(live_index):
    live, at = live_index(every=3, overlap=0.0, budget=1.0), []
    affordable(live, 99)
    for step in range(10):
        live.before_step(step, QUESTIONS)
        at.append(live.at_step)
    assert at == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9] and live.version == 3


def test_step_that_is_tried_again_is_not_refreshed_again(live_index):
    live = live_index(every=2, overlap=0.9, probe_every=1, budget=1.0)
    affordable(live, 99)
    live.before_step(1, QUESTIONS)
    spent = live.spent
    live.before_step(1, QUESTIONS)
    assert live.spent == spent > 0
    for _ in range(2):
        live.before_step(2, QUESTIONS)
    assert live.refreshes == 1


def test_refresh_that_ran_out_of_memory_is_made_when_its_step_is_tried_again(live_index, monkeypatch):
    live = live_index(every=2, overlap=0.0, budget=1.0)
    affordable(live, 99)
    encode = live.encoder.encode
    monkeypatch.setattr(live.encoder, "encode", lambda *_: (_ for _ in ()).throw(MemoryError("can't allocate memory")))
    with pytest.raises(MemoryError):
        live.before_step(2, QUESTIONS)
    assert (live.version, live.spent) == (0, 0.0)
    monkeypatch.setattr(live.encoder, "encode", encode)
    live.before_step(2, QUESTIONS)
    assert (live.version, live.at_step) == (1, 2) and live.spent == live.cost()


def test_numbers_of_a_refresh_that_cannot_be_are_refused_all_at_once():
    with pytest.raises(ValueError, match=r"(?s)every.*probe_every.*budget.*lag"):
        RefreshSettings(every=-1, probe_every=0, budget=float("nan"), lag=-3)


def reference_overlap(live: LiveIndex, before: np.ndarray) -> float:
    """The share of the live top ten that is in the index's top ten, looked for among its first twenty."""
    queries, after = live.encoder.encode(QUESTIONS, "query").astype(float), fresh(live).astype(float)
    shares = []
    for query in queries:
        old = np.argsort(-(before.astype(float) @ query))
        new = sorted(old[:20], key=lambda row: -(after[row] @ query))[:10]
        shares.append(len({*new} & {*old[:10]}) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize(("by", "refreshed"), [(1e-5, 0), (0.5, 1)])
def test_refresh_by_staleness_comes_when_the_top_ten_are_others_and_not_before(
    machine, town_base, live_index, tmp_path, by, refreshed
):
    rows = [(f"n{n}", f"Number {n}", f"{n} times {n + 3} is {n * (n + 3)}; " * (n % 4 + 1)) for n in range(60)]
    passages = pd.DataFrame(rows, columns=["passage_id", "title", "text"])
    encoder = live_index().encoder
    vectors = encoder.encode(passage_inputs(passages), "passage")
    settings = RefreshSettings(overlap=0.9, probe_every=5, budget=1.0)
    live = LiveIndex(encoder, DenseIndex([row[0] for row in rows], vectors), passages, settings, tmp_path / "numbers")
    affordable(live, 99)
    move(live, by)
    for step in (1, 2, 3, 4):
        live.before_step(step, QUESTIONS)
    assert live.spent == 0 and live.overlap is None  # no probe was due yet
    expected = reference_overlap(live, vectors)
    live.before_step(5, QUESTIONS)
    assert live.overlap == pytest.approx(expected) and (expected < 0.9) == bool(refreshed)
    assert live.refreshes == refreshed


def test_budget_puts_a_refresh_off_and_counts_it(live_index):
    live = live_index(every=1, overlap=0.0, budget=0.1)
    affordable(live, 0.99)
    live.before_step(1, QUESTIONS)
    assert (live.refreshes, live.put_off, live.spent) == (0, 1, 0.0)
    affordable(live, 0.02)
    live.before_step(2, QUESTIONS)
    assert (live.refreshes, live.put_off, live.spent) == (1, 1, live.cost())
    live.before_step(3, QUESTIONS)  # the allowance is used up
    assert (live.refreshes, live.put_off) == (1, 2)
    assert live.spent <= 0.1 * live.trained


def test_cost_is_the_passages_tokens_times_the_weights_that_multiply(live_index):
    live = live_index()
    tokens = sum(len(live.encoder.model.tokenizer(text)["input_ids"]) for text in live.texts)
    hidden, inner = 64, 128
    attention = 4 * (hidden * hidden + hidden) + 2 * hidden
    layer = attention + 2 * hidden * inner + inner + hidden + 2 * hidden
    pooler = hidden * hidden + hidden
    expected = 2 * hidden + 2 * layer + pooler
    assert weights_of(live.encoder.model) in {expected, expected - pooler}
    assert live.cost() == pytest.approx(tokens * weights_of(live.encoder.model))


def test_probe_costs_its_share_and_waits_until_a_refresh_could_follow(live_index):
    """Else probes use up what a refresh would take, and it never comes."""
    live = live_index(overlap=0.9, probe_every=1, probe_queries=3, budget=0.5)
    live.before_step(1, QUESTIONS[:3])
    assert live.spent == 0.0  # nothing trained: nothing allowed
    affordable(live, 1.5)
    live.before_step(2, QUESTIONS[:3])
    assert live.spent == 0.0
    affordable(live, 0.6)
    live.before_step(3, QUESTIONS[:3])
    assert live.spent == live.cost() and live.refreshes == 0  # sixty passages to look at, and there are twelve
    live.settings = replace(live.settings, probe_queries=0)
    live.stale(QUESTIONS[:1])
    assert live.spent == live.cost()


def test_stale_index_is_refreshed_however_small_the_budget(live_index):
    live = live_index(overlap=1.1, probe_every=1, probe_queries=1, budget=0.1)  # stale whatever it holds
    seen = []
    for step in range(1, 200):
        affordable(live, 0.05)
        live.before_step(step, QUESTIONS[:1])
        seen.append(live.refreshes)
        assert live.spent <= 0.1 * live.trained
    assert 4 <= seen[-1] <= 5  # ten in all, of which a probe and a refresh take two


# --- versions ---


def test_versions_that_no_checkpoint_needs_are_removed(live_index):
    live = live_index()
    live.refresh(1)
    live.refresh(2)
    assert versions(live) == ["000002"]
    live.state()  # a checkpoint, and then a newer version
    live.refresh(3)
    assert versions(live) == ["000002", "000003"]
    live.refresh(4)
    assert versions(live) == ["000002", "000004"]
    live.state()  # the one before may still be the one that is whole
    live.refresh(5)
    assert versions(live) == ["000002", "000004", "000005"]
    live.state()
    live.refresh(6)
    assert versions(live) == ["000004", "000005", "000006"]
    assert json.loads((live.folder / "000006/version.json").read_text()) == {"version": 6, "step": 6}


def test_restored_index_is_the_one_of_the_checkpoint_and_goes_on_counting(live_index):
    live = live_index(every=4, overlap=0.0, budget=1.0)
    affordable(live, 2)
    move(live, 0.2)
    live.before_step(4, QUESTIONS)
    state = json.loads(json.dumps(live.state()))
    live.refresh(7)  # after the checkpoint, and lost by the kill
    again = live_index(every=4, overlap=0.0, budget=1.0)
    again.restore(state)
    assert np.array_equal(again.vectors, np.load(live.folder / "000001/vectors.npy"))
    expected = {"version": 1, "at_step": 4, "refreshes": 1, "put_off": 0, "failed": 0, "spent": live.cost()}
    assert {name: getattr(again, name) for name in expected} == expected and again.trained == live.trained
    again.before_step(7, QUESTIONS)
    assert again.version == 1
    move(again, 0.1)
    again.before_step(8, QUESTIONS)
    assert again.version == 2 and np.array_equal(again.vectors, again.encoder.encode(again.texts, "passage"))


def test_versions_are_of_the_kind_that_training_began_with(live_index, town_base, tmp_path):
    graph = HnswSettings(M=2, efConstruction=8, efSearch=4)  # fewer candidates than passages: they are walked to
    start = replace(DenseIndex.load(town_base.index), hnsw=graph, saved=None)

    def make() -> LiveIndex:
        return LiveIndex(live_index().encoder, start, town_base.passages, RefreshSettings(), tmp_path / "graph")

    live = make()
    move(live, 0.1)
    live.refresh(3)
    assert live.searcher.index.hnsw == graph and live.searcher.index._graph.vectors is live.vectors
    found = live.search(["q"], QUESTIONS[:1], 4, "dense")
    state = live.state()
    again = make()
    again.restore(state)
    assert again.version == 1 and again.searcher.index.hnsw == graph
    move(again, 0.1)  # the same weights
    pd.testing.assert_frame_equal(again.search(["q"], QUESTIONS[:1], 4, "dense"), found)


def test_new_training_begins_without_the_versions_of_another(live_index):
    live = live_index()
    live.refresh(1)
    again = live_index()
    again.restore({})
    assert not again.folder.exists() and again.version == 0


@pytest.mark.parametrize("fault", ["altered", "missing"])
def test_version_that_is_altered_or_missing_is_refused_with_the_way_out(live_index, fault):
    live = live_index()
    live.refresh(1)
    state = live.state()
    if fault == "altered":
        np.save(live.folder / "000001/vectors.npy", live.vectors * 0.5)
    else:
        shutil.rmtree(live.folder / "000001")
    with pytest.raises(ValueError, match=r"000001, the index.* missing or altered. Remove .* to train anew"):
        live_index().restore(state)


def test_index_that_cannot_be_made_fresh_is_an_error(live_index):
    live = live_index()
    live.refresh(1)
    shutil.rmtree(live.folder)
    live.folder.write_text("in the way")
    with pytest.raises(OSError):
        live.make_fresh(2)


def test_index_is_not_made_again_by_the_same_weights(live_index):
    live = live_index()
    live.make_fresh(0)  # the index that training began with
    assert live.version == 0
    live.make_fresh(5)
    live.make_fresh(5)
    assert live.version == 1


# --- in the background ---


def background(live_index, **settings) -> LiveIndex:
    live = live_index(every=2, overlap=0.0, budget=1.0, background=True, lag=3, **settings)
    affordable(live, 99)
    return live


def test_refresh_in_the_background_is_taken_up_after_its_lag_and_is_bit_for_bit_that_of_its_weights(live_index):
    live = background(live_index)
    move(live, 0.2)
    expected = live.encoder.encode(live.texts, "passage")
    live.before_step(2, QUESTIONS)
    move(live, 0.2, seed=1)  # training goes on
    for step in (3, 4):
        live.before_step(step, QUESTIONS)
        assert live.version == 0 and live.coming is not None
    state = live.state()
    assert state["coming"] == 2
    live.before_step(5, QUESTIONS)
    assert (live.version, live.at_step, live.coming) == (1, 2, None)
    assert np.array_equal(live.vectors, expected)

    again = background(live_index)  # a run that was killed finds the vectors and starts no process
    again.restore(state)
    assert again.coming is not None and again.coming.worker is None
    again.before_step(5, QUESTIONS)
    assert np.array_equal(again.vectors, expected)


def test_refresh_that_could_not_be_taken_up_for_want_of_memory_is_when_its_step_is_tried_again(
    live_index, monkeypatch
):
    live = background(live_index)
    move(live, 0.2)
    expected = live.encoder.encode(live.texts, "passage")
    live.before_step(2, QUESTIONS)
    with monkeypatch.context() as short:
        short.setattr(live.start.__class__, "with_vectors", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            live.before_step(5, QUESTIONS)
    assert live.version == 0 and live.coming is not None
    live.before_step(5, QUESTIONS)
    assert (live.version, live.failed, live.coming) == (1, 0, None) and np.array_equal(live.vectors, expected)


def test_refresh_that_was_under_way_when_the_run_was_killed_begins_again_and_gives_the_same(live_index):
    live = background(live_index)
    move(live, 0.2)
    expected = live.encoder.encode(live.texts, "passage")
    live.before_step(2, QUESTIONS)
    state = live.state()
    live.coming.stop()  # it ends with the run
    assert not (live.coming.folder / "result").exists()
    again = background(live_index)
    again.restore(state)
    assert again.coming.worker is not None
    again.before_step(5, QUESTIONS)
    assert (again.version, again.failed) == (1, 0) and np.array_equal(again.vectors, expected)


@pytest.mark.parametrize("left", ["job", "result"])
def test_refresh_whose_removal_was_cut_short_is_made_again(live_index, left):
    """The run was killed while it removed what no checkpoint names, and goes on from before that refresh."""
    live = background(live_index)
    state = live.state()
    move(live, 0.2)
    expected = live.encoder.encode(live.texts, "passage")
    live.before_step(2, QUESTIONS)
    place = live.coming.folder
    live.before_step(5, QUESTIONS)
    assert live.version == 1
    (place / left / "_artefact.json").unlink()
    again = background(live_index)
    again.restore(state)
    move(again, 0.2)
    again.before_step(2, QUESTIONS)
    again.before_step(5, QUESTIONS)
    assert (again.version, again.failed) == (1, 0) and np.array_equal(again.vectors, expected)


def altered(live: LiveIndex) -> None:
    weights = live.coming.folder / "job/model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # a bit of a weight: the file can be read as before
    weights.write_bytes(content)


def killed(live: LiveIndex) -> None:
    live.coming.worker.process.kill()


@pytest.mark.parametrize(("crash", "reason"), [(altered, "altered"), (killed, "exit status -9")])
def test_crash_in_the_background_leaves_the_old_version_and_is_counted(live_index, caplog, crash, reason):
    live = background(live_index)
    move(live, 0.2)
    live.before_step(2, QUESTIONS)
    crash(live)
    old = live.vectors
    live.before_step(5, QUESTIONS)
    assert live.vectors is old and (live.version, live.failed, live.refreshes) == (0, 1, 0)
    assert "The refresh that began at step 2 failed" in caplog.text and reason in caplog.text
    assert "Training goes on with version 0" in caplog.text
    live.make_fresh(6)
    assert np.array_equal(live.vectors, live.encoder.encode(live.texts, "passage"))
    assert live.state()["failed"] == 1


def test_refresh_that_hangs_is_ended_after_its_time_and_the_next_one_is_taken_up(live_index, caplog):
    live = background(live_index, timeout=0.5)
    move(live, 0.2)
    live.before_step(2, QUESTIONS)
    process, old = live.coming.worker.process, live.vectors
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    live.before_step(5, QUESTIONS)
    assert 0.5 <= time.monotonic() - begun < 10 and process.poll() == -signal.SIGKILL
    assert live.vectors is old and (live.version, live.failed, live.coming) == (0, 1, None)
    assert "waited 0.5 s for it (refresh.timeout)" in caplog.text and "goes on with version 0" in caplog.text
    live.settings = replace(live.settings, timeout=300.0)
    live.before_step(6, QUESTIONS)
    live.before_step(9, QUESTIONS)
    assert (live.version, live.at_step, live.failed) == (1, 6, 1)
    assert np.array_equal(live.vectors, live.encoder.encode(live.texts, "passage"))


def test_vectors_that_are_whole_are_taken_from_a_process_that_does_not_end(live_index):
    live = background(live_index, timeout=0.5)
    move(live, 0.2)
    live.before_step(2, QUESTIONS)
    assert live.coming.worker.process.wait() == 0
    hanging = live.coming.worker.process = subprocess.Popen(["sleep", "600"])
    live.before_step(5, QUESTIONS)
    assert hanging.poll() == -signal.SIGKILL and (live.version, live.failed) == (1, 0)


def test_fresh_index_ends_the_refresh_in_the_background(live_index):
    live = background(live_index)
    live.before_step(2, QUESTIONS)
    process = live.coming.worker.process
    live.make_fresh(3)
    assert process.poll() is not None and live.coming is None and live.at_step == 3


@pytest.mark.parametrize("fault", ["altered", "missing"])
def test_background_job_that_is_altered_or_missing_is_refused_with_the_way_out(live_index, fault):
    live = background(live_index)
    live.before_step(2, QUESTIONS)
    state, folder = live.state(), live.coming.folder
    live.coming.stop()
    altered(live) if fault == "altered" else shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"job, the refresh .* missing or altered. Remove .* to train anew"):
        background(live_index).restore(state)


def test_refresh_in_the_background_ends_with_the_process_that_began_it(live_index):
    live = background(live_index)
    live.before_step(2, QUESTIONS)
    live.coming.stop()
    # Begun for a process that has died meanwhile, as its number says.
    done = subprocess.run(
        [sys.executable, "-m", "ragsmith.read.refresh_job", str(live.coming.folder), str(os.getpid() + 1)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and not (live.coming.folder / "result").exists()
    assert "the training that began it has ended" in done.stderr


# --- what is refused ---


def test_all_faults_of_a_knowledge_base_are_said_at_once():
    rows = [("a", "one"), ("a", "two"), ("b", "  "), ("c", None), ("d", float("nan"))]
    with pytest.raises(ValueError, match="1 ids stand twice, such as 'a'; 3 passages have no text, such as 'b'"):
        check_passages(pd.DataFrame(rows, columns=["passage_id", "text"]))
    with pytest.raises(ValueError, match="it is empty"):
        check_passages(pd.DataFrame({"passage_id": [], "text": []}, dtype=object))


@pytest.mark.parametrize("fault", ["other", "twice"])
def test_index_of_other_passages_is_refused(live_index, town_base, tmp_path, fault):
    start = DenseIndex.load(town_base.index)
    ids = ["x", *start.passage_ids[1:]] if fault == "other" else [*start.passage_ids, "p1"]
    vectors = start.vectors if fault == "other" else np.concatenate([start.vectors, start.vectors[:1]])
    with pytest.raises(ValueError, match="does not hold the same passages"):
        LiveIndex(live_index().encoder, DenseIndex(ids, vectors), town_base.passages, RefreshSettings(), tmp_path)
