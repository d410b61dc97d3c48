"""The levers of the engine change its speed and memory, and no gradient."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

from ragsmith.compute import memory
from ragsmith.learn import embedding
from ragsmith.learn.contrastive import ContrastiveSettings, ContrastiveTask, DevSet
from ragsmith.learn.embedding import activation_bytes
from ragsmith.learn.loop import LoopSettings, make_optimizer, train_step
from ragsmith.learn.losses import distillation, info_nce, margin_mse
from ragsmith.learn.training_data import BatchBuilder, Example, training_examples
from ragsmith.retrieve.encoder import Encoder


@pytest.fixture
def taught(mined) -> pd.DataFrame:
    scores = [
        np.linspace(3, -2, len(row.positive_ids) + len(row.negative_ids)).tolist()
        for row in mined.itertuples(index=False)
    ]
    return mined.assign(teacher_scores=scores)


@pytest.fixture
def make_task(tiny_model, machine, queries, passages):
    def make(mined, negatives=2, **settings):
        builder = BatchBuilder(training_examples(queries, mined), passages, 6, negatives, 0.0, 0)
        dev = DevSet(["wait"], [{"p4"}], passages["passage_id"].tolist(), passages["text"].tolist())
        return ContrastiveTask(
            Encoder.load(tiny_model, machine), builder, dev, ContrastiveSettings(**settings), "base"
        )

    return make


def gradient(task: ContrastiveTask) -> tuple[float, torch.Tensor]:
    task.module.zero_grad()
    loss, _ = task.loss(0, 0)
    loss.backward()
    found = [p.grad.flatten() for p in task.module.parameters() if p.grad is not None]
    return loss.item(), torch.cat(found)


def plain_gradient(task: ContrastiveTask) -> tuple[float, torch.Tensor]:
    """The same by sentence-transformers' own padded forward pass, each passage as often as it is named."""
    batch = task.builder.batch(0, 0)
    model = task.encoder.model
    model.zero_grad()

    def vectors(texts):
        features = model.tokenizer(texts, padding=True, return_tensors="pt", truncation=True, max_length=64)
        return torch.nn.functional.normalize(model(dict(features))["sentence_embedding"], dim=1)

    queries, repeated = vectors(batch.queries), []
    for row in batch.groups:  # every group of every query on its own
        repeated.append(vectors([batch.passages[place] for place in row]))
    passages = torch.zeros(len(batch.passages), queries.shape[1])
    for row, found in zip(batch.groups, repeated, strict=True):
        for place, vector in zip(row, found, strict=True):
            share = 1 / sum(int((other == place).sum()) for other in batch.groups)
            passages = passages + torch.eye(len(batch.passages))[:, [place]] * vector * share
    loss, _ = info_nce(
        queries, passages, torch.from_numpy(batch.targets), torch.from_numpy(batch.ignored), task.settings.temperature
    )
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_sorting_packing_and_sharing_leave_the_gradient_as_it_is(make_task, mined):
    task = make_task(mined)
    assert len(task.builder.batch(0, 0).passages) == 6  # 18 places, 6 passages: each is computed once
    (one, ours), (other, plain) = gradient(task), plain_gradient(make_task(mined))
    assert one == pytest.approx(other, abs=1e-5)
    assert torch.nn.functional.cosine_similarity(ours, plain, dim=0) >= 0.9999
    assert ours.norm().item() == pytest.approx(plain.norm().item(), rel=1e-3)


def test_computing_twice_in_parts_leaves_the_gradient_as_it_is(make_task, mined):
    kept, twice = make_task(mined), make_task(mined, activation_gib=0.0, micro_tokens=16)
    assert not kept.vectors.must_recompute([64] * 20) and twice.vectors.must_recompute([1])
    (one, plain), (other, parts) = gradient(kept), gradient(twice)
    assert one == pytest.approx(other, abs=1e-6)
    assert torch.nn.functional.cosine_similarity(plain, parts, dim=0) >= 0.9999


def test_loss_and_gradient_in_parts_equal_those_of_the_cached_loss_of_sentence_transformers(
    tiny_model, machine, queries, passages
):
    # No passage stands twice in the batch: theirs would take it for a negative of its own query.
    mined = pd.DataFrame(
        [(f"q{number}", [f"p{number}"], [f"p{number + 3}"]) for number in (1, 2, 3)],
        columns=["query_id", "positive_ids", "negative_ids"],
    )
    builder = BatchBuilder(training_examples(queries, mined), passages, 3, 1, 0.0, 0)
    settings = ContrastiveSettings(activation_gib=0.0, micro_tokens=16)
    dev = DevSet(["wait"], [{"p4"}], passages["passage_id"].tolist(), passages["text"].tolist())
    task = ContrastiveTask(Encoder.load(tiny_model, machine), builder, dev, settings, "base")
    batch = builder.batch(0, 0)
    lengths = [len(ids) for ids in task.encoder.token_ids(batch.passages, "passage")]
    assert (
        task.vectors.must_recompute(lengths)
        and len(task.encoder.batches([[0] * n for n in lengths], "passage", 16)) > 2
    )
    loss, _ = task.loss(0, 0)
    loss.backward()

    model = SentenceTransformer(str(tiny_model), device="cpu").eval()
    columns = [batch.queries, *([batch.passages[place] for place in column] for column in batch.groups.T)]
    theirs = CachedMultipleNegativesRankingLoss(model, scale=1 / settings.temperature, mini_batch_size=2)
    expected = theirs([model.preprocess(column) for column in columns], torch.empty(0))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    ours, others = (
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        for module in (task.module, model)
    )
    assert ours.keys() == others.keys()
    flat = [torch.cat([gradients[name].flatten() for name in ours]) for gradients in (ours, others)]
    assert torch.cosine_similarity(*flat, dim=0) >= 0.9999
    assert flat[0].norm().item() == pytest.approx(flat[1].norm().item(), rel=1e-3) and flat[0].norm() > 0


def test_estimate_of_activations_grows_with_layers_tokens_and_precision(make_task, mined):
    tower = make_task(mined).encoder.towers["query"]
    assert activation_bytes(tower, [100]) * 2 == activation_bytes(tower, [100, 100])
    assert activation_bytes(tower, [200]) > 2 * activation_bytes(tower, [100])
    # 2 layers × 4 bytes × tokens × (8 × 64 + 2 × 128 + 2 heads × tokens)
    assert activation_bytes(tower, [10]) == 2 * 4 * 10 * (8 * 64 + 2 * 128 + 2 * 10)


@pytest.mark.parametrize("name", ["infonce", "distillation", "margin_mse"])
def test_each_loss_is_its_formula_on_the_vectors_of_the_batch(make_task, taught, name):
    task = make_task(taught, loss=name, distillation_weight=1.0)
    batch = task.builder.batch(0, 0)
    queries, passages = (
        torch.from_numpy(task.encoder.encode(texts, kind))
        for texts, kind in ((batch.queries, "query"), (batch.passages, "passage"))
    )
    targets, ignored, groups, grouped, teacher = map(
        torch.from_numpy, (batch.targets, batch.ignored, batch.groups, batch.grouped, batch.teacher)
    )
    expected = {
        "infonce": lambda: info_nce(queries, passages, targets, ignored, 0.05)[0],
        "distillation": lambda: distillation(queries, passages, groups, grouped, teacher, 0.05, 0.3),
        "margin_mse": lambda: margin_mse(queries, passages, groups, grouped, teacher),
    }[name]()
    assert task.loss(0, 0)[0].item() == pytest.approx(expected.item(), abs=1e-4)


def test_teacher_s_scores_follow_their_passages_into_the_batch(make_task, taught):
    batch = make_task(taught).builder.batch(0, 0)
    by_text = {row.query_id: row for row in taught.itertuples(index=False)}
    examples = {example.text: example for example in make_task(taught).builder.examples}
    texts = make_task(taught).builder.texts
    for row, query in enumerate(batch.queries):
        example = examples[query]
        ids = [*example.positive_ids, *example.negative_ids]
        scores = dict(zip((texts[i] for i in ids), by_text[example.query_id].teacher_scores, strict=True))
        for column in np.flatnonzero(batch.grouped[row]):
            assert batch.teacher[row, column] == pytest.approx(scores[batch.passages[batch.groups[row, column]]])


def test_auto_takes_distillation_only_when_every_query_was_taught(make_task, mined, taught):
    assert make_task(taught).loss_name == "distillation" and make_task(mined).loss_name == "infonce"
    half = taught.copy()
    half.at[0, "teacher_scores"] = []
    assert make_task(half).loss_name == "infonce"
    with pytest.raises(ValueError, match=r"and 1 of 6 .* Set models\.reranker .* \(pos_scores, neg_scores\), or use"):
        make_task(half, loss="margin_mse")


def test_negatives_that_the_teacher_has_not_seen_are_left_out_with_nothing_else(queries, taught):
    taught.at[1, "teacher_scores"] = [3.0, 2.0, None, 1.0]  # of NaN, a table on disk makes a null
    examples = training_examples(queries, taught)
    assert examples[1].negative_ids == ("p3", "p4") and np.isnan(examples[1].teacher_scores[2])
    seen = examples[1].with_scored_negatives()
    assert (seen.positive_ids, seen.negative_ids, seen.teacher_scores) == (("p2", "p1"), ("p4",), (3.0, 2.0, 1.0))
    assert examples[0].with_scored_negatives() == examples[0]


def test_without_in_batch_negatives_a_query_sees_its_own_group_alone(make_task, mined):
    task = make_task(mined, in_batch_negatives=False, negatives=1)
    batch = task.builder.batch(0, 0)
    queries, passages = (
        torch.from_numpy(task.encoder.encode(texts, kind))
        for texts, kind in ((batch.queries, "query"), (batch.passages, "passage"))
    )
    cosines = queries @ passages.T / 0.05
    expected = [-torch.log_softmax(cosines[row, batch.groups[row][batch.grouped[row]]], 0)[0] for row in range(6)]
    assert task.loss(0, 0)[0].item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-4)


def test_matryoshka_trains_prefixes_and_refuses_those_longer_than_the_vector(make_task, mined):
    full, nested = gradient(make_task(mined)), gradient(make_task(mined, matryoshka=(16, 32)))
    assert nested[0] > full[0]
    with pytest.raises(ValueError, match="longer than the model's vectors"):
        make_task(mined, matryoshka=(65,))


def test_batch_whose_passages_are_one_and_the_same_gives_no_gradient_and_is_told_once(make_task, queries, caplog):
    same = pd.DataFrame({"query_id": queries["query_id"], "positive_ids": [["p1"]] * 6, "negative_ids": [[]] * 6})
    same.at[0, "negative_ids"] = ["p2"]
    task = make_task(same, negatives=0)
    for _ in range(2):
        loss, flat = gradient(task)
        assert loss == 0 and not flat.any()
    assert task.loss(0, 0)[1]["without_negative"] == 1
    assert caplog.text.count("nothing can be learned from it") == 1


def test_examples_with_one_text_for_all_are_refused(make_task, queries):
    same = pd.DataFrame({"query_id": queries["query_id"], "positive_ids": [["p1"]] * 6, "negative_ids": [[]] * 6})
    with pytest.raises(ValueError, match="All 1 passages of the 6 training examples have the same text"):
        make_task(same, negatives=0)


def test_equal_texts_under_other_ids_are_no_negatives_of_each_other(queries, passages):
    passages.loc[1, ["title", "text"]] = passages.loc[0, ["title", "text"]]  # p2 is p1 once more
    queries.loc[3, "text"] = queries.loc[2, "text"]  # q4 asks what q3 asks, and has another answer
    rows = [(f"q{n}", [f"p{n}"], ["p2" if n == 1 else "p3" if n == 4 else "p6"]) for n in range(1, 7)]
    mined = pd.DataFrame(rows, columns=["query_id", "positive_ids", "negative_ids"])
    scored = mined.assign(teacher_scores=[[3.0, 1.0]] * 6)
    builder = BatchBuilder(training_examples(queries, scored), passages, 6, 1, 0.0, 0)
    assert builder.left_out == 3 and builder.short == 3  # p2 of q1, p3 of q4, p6 of q6
    assert [len(example.teacher_scores) for example in builder.examples] == [1, 2, 2, 1, 2, 1]
    batch = builder.batch(0, 0)
    assert len(batch.passages) == len(set(batch.passages)) == 5
    place = {name: batch.passages.index(text) for name, text in builder.texts.items()}
    right = {"how to tree": {"p1"}, "how to copy": {"p1"}, "how to json": {"p3", "p4"}, "how to sqrt": {"p5"}}
    for row, text in enumerate(batch.queries):
        mine = {place[name] for name in right.get(text, ())} - {batch.targets[row]}
        assert set(np.flatnonzero(batch.ignored[row])) == mine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive_ids": []}, "q1 .*has no positive"),
        ({"teacher_scores": [1.0]}, "has 1 teacher_scores for 1 positives and 2 negatives"),
        ({"negative_ids": ["p9", "p2"]}, "1 passages of the training examples are not in the table.* p9 of query q1"),
    ],
)
def test_what_cannot_be_trained_on_is_named(make_task, taught, change, message):
    for column, value in change.items():
        taught.at[0, column] = value
        if column == "negative_ids":
            taught = taught.drop(columns="teacher_scores")
    with pytest.raises(ValueError, match=message):
        make_task(taught)


def test_out_of_memory_goes_on_in_smaller_parts_with_the_same_step(make_task, mined, machine, caplog):
    def step(task):
        optimizer = make_optimizer(task.module, LoopSettings(1, 1e-3))
        return train_step(task, optimizer, LoopSettings(1, 1e-3), machine, 0, 0, 1)

    class Short(ContrastiveTask):
        failures = 0

        def loss(self, epoch, number):
            if self.vectors.activation_bytes:
                self.failures += 1
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
            return super().loss(epoch, number)

    def last_gradient(task):
        return torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])

    plain, short = make_task(mined), make_task(mined)
    short.__class__ = Short
    expected, found = step(plain), step(short)
    assert short.failures == 1
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("out of memory: going on in parts of 2048 tokens that are computed twice")
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
    assert torch.cosine_similarity(last_gradient(plain), last_gradient(short), dim=0) >= 0.9999


def test_parts_shrink_to_the_longest_text_of_the_training_and_never_grow(make_task, mined):
    # The model reads 128 tokens, and the training 32: a part need not hold more, whatever it began with.
    for begun, expected in ((4096, [2048, 1024]), (64, [32]), (20, [20])):
        task = make_task(mined, micro_tokens=begun, max_query_tokens=16, max_passage_tokens=32)
        found = []
        for _ in expected:
            assert task.shrink()
            found.append(task.vectors.micro_tokens)
        assert found == expected
    assert not task.shrink()


def test_memory_that_never_suffices_is_an_error_and_so_is_any_other(make_task, mined, machine):
    task = make_task(mined)
    optimizer = make_optimizer(task.module, LoopSettings(1, 1e-3))
    expected = {
        "can't allocate memory": (
            MemoryError,
            "too little memory for step 0, even in the smallest parts. Lower batch.* said: can't allocate memory$",
        ),
        "shapes cannot be multiplied": (RuntimeError, "shapes cannot be multiplied"),
    }
    for raised, (kind, message) in expected.items():
        task.loss = lambda epoch, number, raised=raised: (_ for _ in ()).throw(RuntimeError(raised))
        with pytest.raises(kind, match=message):
            train_step(task, optimizer, LoopSettings(1, 1e-3), machine, 0, 0, 1)


@pytest.mark.parametrize(("gib", "twice"), [(64, False), (2**-20, True)])
def test_batch_is_computed_twice_only_where_the_machine_s_memory_asks_for_it(
    make_task, mined, monkeypatch, gib, twice
):
    monkeypatch.setattr(memory, "LEAST_ACTIVATIONS", 0)
    monkeypatch.setattr(memory, "machine_memory", lambda: int(gib * memory.GIB))
    assert make_task(mined).vectors.must_recompute([20] * 32, [100] * 96) == twice


@pytest.mark.parametrize(("processes", "twice"), [(1, True), (4, False)])
def test_batch_is_computed_twice_where_the_share_of_a_process_asks_for_it(
    make_task, mined, monkeypatch, processes, twice
):
    task, lengths = make_task(mined), ([20] * 32, [100] * 96)
    whole = sum(activation_bytes(task.encoder.transformer("query"), some) for some in lengths)
    task.vectors.activation_bytes = whole // 2
    monkeypatch.setattr(embedding, "world", lambda: processes)
    assert task.vectors.must_recompute(*lengths) == twice


def test_resumed_training_takes_as_little_memory_as_it_had_come_to_take(make_task, mined):
    task, resumed = make_task(mined, micro_tokens=4096), make_task(mined, micro_tokens=4096)
    assert task.shrink() and task.shrink()
    resumed.restore(json.loads(json.dumps(task.state())))
    assert (resumed.vectors.micro_tokens, resumed.vectors.activation_bytes) == (1024, 0)


def test_gradient_that_is_no_number_stops_the_training_before_the_weights_are_lost(make_task, mined, machine):
    task = make_task(mined)
    before = [parameter.detach().clone() for parameter in task.module.parameters()]
    weight = next(task.module.parameters())
    # sqrt has an infinite slope at 0, and 0 times infinity is no number: the loss itself is 1.
    task.loss = lambda epoch, number: (1 + (0 * weight.sum()).sqrt(), {})
    optimizer = make_optimizer(task.module, LoopSettings(1, 1e-3))
    with pytest.raises(FloatingPointError, match="norm of the gradient is nan at step 0"):
        train_step(task, optimizer, LoopSettings(1, 1e-3), machine, 0, 0, 1)
    assert all(torch.equal(one, two) for one, two in zip(before, task.module.parameters(), strict=True))


@pytest.mark.parametrize("loss", ["infonce", "distillation"])
def test_without_in_batch_negatives_each_query_meets_its_own_alone_however_many_it_has(make_task, mined, taught, loss):
    table = (mined if loss == "infonce" else taught).copy()
    for row, count in enumerate([0, 1, 2, 0, 1, 2]):
        table.at[row, "negative_ids"] = table.at[row, "negative_ids"][:count]
        if loss == "distillation":
            table.at[row, "teacher_scores"] = table.at[row, "teacher_scores"][
                : len(table.at[row, "positive_ids"]) + count
            ]
    task = make_task(table, in_batch_negatives=False, loss=loss, distillation_weight=0.0, temperature=0.1)
    batch = task.builder.batch(0, 0)
    with torch.no_grad():
        queries, passages = (
            torch.from_numpy(task.encoder.encode(texts, kind))
            for texts, kind in ((batch.queries, "query"), (batch.passages, "passage"))
        )
    each = []
    for row, text in enumerate(batch.queries):
        example = next(example for example in task.builder.examples if example.text == text)
        own = [batch.passages.index(task.builder.texts[name]) for name in example.negative_ids]
        logits = (queries[row] @ passages[[batch.targets[row], *own]].T) / 0.1
        each.append(-torch.log_softmax(logits, 0)[0])
    found, _ = task.loss(0, 0)
    assert found.item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-5)


def test_loss_that_is_no_number_stops_the_training(make_task, mined, machine):
    task = make_task(mined)
    task.loss = lambda epoch, number: (torch.tensor(float("nan"), requires_grad=True), {})
    optimizer = make_optimizer(task.module, LoopSettings(1, 1e-3))
    with pytest.raises(FloatingPointError, match="look at the base model, or set"):
        train_step(task, optimizer, LoopSettings(1, 1e-3), machine, 0, 0, 1)


def test_collapse_shows_in_the_dev_figures(make_task, mined):
    task = make_task(mined)
    texts = [
        f"{word} {other}" for word in ("copy", "wait", "delete", "list", "sort") for other in ("file", "tree", "line")
    ]
    task.dev = DevSet(texts, [{text} for text in texts], texts, texts)
    _, healthy = task.evaluate()
    assert healthy["same_top10"] < 0.5
    norms = [module for module in task.module.modules() if isinstance(module, torch.nn.LayerNorm)]
    with torch.no_grad():
        norms[-1].weight.zero_()  # every token, and so every text, has the same vector
        norms[-1].bias.fill_(1.0)
    _, collapsed = task.evaluate()
    assert collapsed["same_top10"] == 1.0


def test_embeddings_of_positions_stay_when_they_are_to(make_task, mined, machine):
    for fixed in (True, False):
        task = make_task(mined, fix_position_embedding=fixed)
        before = {name: parameter.detach().clone() for name, parameter in task.module.named_parameters()}
        loop = LoopSettings(1, 1e-3, warmup=0.0)
        train_step(task, make_optimizer(task.module, loop), loop, machine, 0, 0, 1)
        same = {name for name, parameter in task.module.named_parameters() if torch.equal(parameter, before[name])}
        assert any("position_embeddings" in name for name in same) == fixed
        assert not any("word_embeddings" in name for name in same)


def test_example_needs_no_cut_and_no_teacher():
    assert Example("q", "text", ("p",), ()).cut is None


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_model")  # in a second process, transformers writes no model
def test_one_of_two_processes_that_runs_out_of_memory_takes_the_other_along(tmp_path):
    script, file = Path(__file__).with_name("two_ranks.py"), tmp_path / "results.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    places = ["queries", "passages", "loss", "backward"]
    done = subprocess.run([*launcher, script, file, "nowhere", *places], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        undisturbed, *disturbed = json.loads(Path(f"{file}.{rank}").read_text())
        assert undisturbed["warnings"] == [] and [result["place"] for result in disturbed] == places
        for result in disturbed:
            (said,) = result["warnings"]
            assert "going on in parts of" in said
            assert result["loss"] == pytest.approx(undisturbed["loss"], abs=1e-6) and result["away"] <= 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_model")
def test_two_processes_have_the_gradient_of_one_with_the_whole_batch(tmp_path):
    script = Path(__file__).with_name("two_ranks.py")
    files = [tmp_path / "one", tmp_path / "two"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for file, begin in zip(files, ([sys.executable], launcher), strict=True):
        done = subprocess.run([*begin, script, file], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = map(load_file, files)
    assert (one["world"], two["world"]) == (1, 2)
    assert two["loss"].item() == pytest.approx(one["loss"].item(), abs=1e-6)
    first, second = one["gradient"], two["gradient"]
    assert torch.nn.functional.cosine_similarity(first, second, dim=0) >= 0.9999
    assert second.norm().item() == pytest.approx(first.norm().item(), rel=1e-4) and first.norm() > 0
