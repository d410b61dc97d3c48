import time
import tracemalloc
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from ragsmith.evaluate.retrieval import score_run
from ragsmith.learn.contrastive import ContrastiveSettings, ContrastiveTask, DevSet, dev_score, score_figures
from ragsmith.learn.embedding import shortened
from ragsmith.learn.loop import LoopSettings, make_optimizer, train_step
from ragsmith.learn.losses import info_nce
from ragsmith.learn.training_data import BatchBuilder, training_examples
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex


@pytest.fixture
def dev(passages) -> DevSet:
    return DevSet(
        ["delete a tree", "wait"], [{"p1"}, {"p4", "p2"}], passages["passage_id"].tolist(), passages["text"].tolist()
    )


@pytest.fixture
def make_task(tiny_model, machine, queries, mined, passages, dev):
    def make(base_hash="base", batch_size=3, seed=0, dev=dev, **settings):
        builder = BatchBuilder(training_examples(queries, mined), passages, batch_size, 1, 0.5, seed)
        encoder = Encoder.load(tiny_model, machine)
        return ContrastiveTask(encoder, builder, dev, ContrastiveSettings(**settings), base_hash)

    return make


def embedded(task, texts, kind, recompute=False):
    limit = task.settings.max_query_tokens if kind == "query" else task.settings.max_passage_tokens
    return task.vectors.embed(task._cut(texts, kind, limit), kind, recompute)


def test_token_ids_are_cut_before_the_end_mark():
    assert shortened([101, 5, 6, 7, 102], 4) == [101, 5, 6, 102]
    assert shortened([101, 5, 102], 3) == [101, 5, 102]


def test_training_vectors_are_those_of_the_encoder_in_the_order_of_the_texts(make_task):
    texts = ["a", "delete a whole directory tree with all that is in it", "two words", "b c d e f"]
    task = make_task(micro_tokens=16)
    vectors = embedded(task, texts, "passage").detach()
    assert torch.allclose(vectors, torch.from_numpy(task.encoder.encode(texts, "passage")), atol=1e-5)


def test_longer_texts_are_cut_for_training(make_task):
    task = make_task(max_passage_tokens=5)
    vectors = embedded(task, ["one two three four five", "one two three"], "passage").detach()
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6)


def test_texts_of_a_hundred_thousand_characters_train_as_their_first_tokens_do(
    tiny_model, machine, queries, mined, passages, dev
):
    def step(queries, passages):
        builder = BatchBuilder(training_examples(queries, mined), passages, 3, 1, 0.0, 0)
        task = ContrastiveTask(Encoder.load(tiny_model, machine), builder, dev, ContrastiveSettings(), "base")
        tokens = task._tokens(0, 0)
        assert {len(ids) for ids in tokens.queries} == {task.settings.max_query_tokens}
        assert {len(ids) for ids in tokens.passages} == {task.settings.max_passage_tokens}
        figures = train_step(
            task, make_optimizer(task.module, LoopSettings(1, 1e-3)), LoopSettings(1, 1e-3), machine, 0, 0, 1
        )
        return figures, torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])

    def lengthened(table, characters):
        return table.assign(text=[((text + " ") * characters)[:characters] for text in table["text"]])

    tracemalloc.start()
    begin = time.monotonic()
    figures, whole = step(lengthened(queries, 100_000), lengthened(passages, 100_000))
    seconds, peak = time.monotonic() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 60 and peak < 100e6
    expected, cut = step(lengthened(queries, 2_000), lengthened(passages, 2_000))
    assert figures["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    assert torch.cosine_similarity(whole, cut, dim=0) >= 0.9999


def test_gradient_in_several_passes_equals_that_of_one_pass(make_task):
    def gradient(micro_tokens):
        task = make_task(batch_size=6, micro_tokens=micro_tokens)
        loss, _ = task.loss(0, 0)
        loss.backward()
        flat = torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])
        return loss.item(), flat

    (one, plain), (other, split) = gradient(100_000), gradient(12)
    assert one == pytest.approx(other, abs=1e-6)
    assert torch.nn.functional.cosine_similarity(plain, split, dim=0) >= 0.9999
    assert split.norm().item() == pytest.approx(plain.norm().item(), rel=1e-4) and plain.norm() > 0


def test_weights_converted_once_for_a_step_lose_nothing_beside_those_converted_for_each_part(make_task, monkeypatch):
    def gradient(precision, shared):
        task = make_task(batch_size=6, micro_tokens=12)
        task.encoder.machine = replace(task.encoder.machine, precision=precision)
        if not shared:
            monkeypatch.setattr(task.vectors, "embed", partial(unshared, task.vectors.embed))
        loss, _ = task.loss(0, 0)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in task.module.parameters() if p.grad is not None])

    def unshared(embed, token_ids, kind, recompute, weights):
        return embed(token_ids, kind, recompute)

    exact = gradient("fp32", shared=False)
    once, each = (torch.cosine_similarity(exact, gradient("bf16", shared), dim=0) for shared in (True, False))
    assert once >= 0.999 and once >= each - 1e-3


def test_loss_is_info_nce_of_the_batch(make_task):
    task = make_task(temperature=0.1)
    batch = task.builder.batch(2, 1)
    vectors = [
        torch.from_numpy(task.encoder.encode(texts, kind))
        for texts, kind in ((batch.queries, "query"), (batch.passages, "passage"))
    ]
    expected, cosines = info_nce(*vectors, torch.from_numpy(batch.targets), torch.from_numpy(batch.ignored), 0.1)
    loss, figures = task.loss(2, 1)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    positives, hardest = [], []
    for row in range(3):
        others = [
            float(cosines[row, place])
            for place in range(len(batch.passages))
            if place != batch.targets[row] and not batch.ignored[row, place]
        ]
        positives.append(float(cosines[row, batch.targets[row]]))
        hardest.append(max(others))
    wins = [right > wrong for right, wrong in zip(positives, hardest, strict=True)]
    assert figures == {
        "positive_cosine": pytest.approx(sum(positives) / 3, abs=1e-5),
        "hardest_negative_cosine": pytest.approx(sum(hardest) / 3, abs=1e-5),
        "score_gap": pytest.approx((sum(positives) - sum(hardest)) / 3, abs=1e-5),
        "in_batch_accuracy": pytest.approx(sum(wins) / 3),
        "without_negative": 0,
    }


def test_figures_of_a_batch_worked_by_hand():
    cosines = torch.tensor([[0.9, 0.2, 0.95, -0.1], [0.6, 0.5, 0.1, 0.3], [-0.4, -0.9, -0.3, -0.6]])
    ignored = torch.zeros_like(cosines, dtype=torch.bool)
    ignored[0, 2] = True  # another right answer: not the hardest negative
    figures = score_figures(cosines, torch.tensor([0, 1, 2]), ignored)
    assert figures == {
        "in_batch_accuracy": pytest.approx(2 / 3),
        "positive_cosine": pytest.approx((0.9 + 0.5 - 0.3) / 3),
        "hardest_negative_cosine": pytest.approx((0.2 + 0.6 - 0.4) / 3),
        "score_gap": pytest.approx((0.7 - 0.1 + 0.1) / 3),
        "without_negative": 0,
    }
    ignored[0, [1, 3]] = True
    assert score_figures(cosines, torch.tensor([0, 1, 2]), ignored)["without_negative"] == pytest.approx(1 / 3)


def test_dropout_is_what_the_settings_say(make_task):
    still, shaken = make_task(dropout=0.0), make_task(dropout=0.3)
    still.module.train()
    shaken.module.train()
    texts = ["one two three"]
    assert torch.equal(embedded(still, texts, "query"), embedded(still, texts, "query"))
    assert not torch.equal(embedded(shaken, texts, "query"), embedded(shaken, texts, "query"))


def test_identity_changes_with_all_that_decides_the_outcome(make_task, dev):
    same = {make_task().identity() for _ in range(2)}
    assert len(same) == 1
    others = [
        make_task(base_hash="other"),
        make_task(batch_size=2),
        make_task(seed=1),
        make_task(temperature=0.06),
        make_task(dev=replace(dev, texts=["remove a tree", "wait"])),
        make_task(dev=replace(dev, relevant=[{"p1"}, {"p4"}])),
    ]
    assert len(same | {task.identity() for task in others}) == 7


def test_dev_score_equals_that_of_the_evaluation_over_the_same_pool(make_task, dev):
    encoder = make_task().encoder
    index = DenseIndex(dev.passage_ids, encoder.encode(dev.passages, "passage"))
    run = index.run(["a", "b"], encoder.encode(dev.texts, "query"), 10)
    qrels = pd.DataFrame([("a", "p1", 1), ("b", "p4", 1), ("b", "p2", 1)], columns=["query_id", "passage_id", "grade"])
    expected = score_run(run, qrels, ["ndcg@10"])["value"].mean()
    assert dev_score(encoder, dev) == pytest.approx(expected, abs=1e-6) and 0 < expected < 1
