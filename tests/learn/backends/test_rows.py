from dataclasses import replace

import pytest

from ragsmith.learn.backends.rows import training_rows
from ragsmith.learn.contrastive import ContrastiveSettings
from ragsmith.learn.loop import LoopSettings
from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.learn.training_data import training_examples
from ragsmith.retrieve.encoder import Encoder

SETTINGS = RetrieverSettings(4, 2, 0.0, ContrastiveSettings(), LoopSettings(epochs=3, learning_rate=1e-3))


@pytest.fixture
def encoder(tiny_model, machine):
    encoder = Encoder.load(tiny_model, machine)
    encoder.model.prompts = {"query": "find: ", "passage": "text: "}
    return encoder


@pytest.fixture
def examples(queries, mined):
    return training_examples(queries, mined)


def test_rows_hold_whole_batches_of_each_epoch_in_an_order_of_its_own(examples, passages, encoder):
    rows = training_rows(examples, passages, SETTINGS, encoder)
    epochs = [[row.query for row in rows[start : start + 4]] for start in (0, 4, 8)]
    assert len(rows) == 12 and all(len(set(epoch)) == 4 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert training_rows(examples, passages, SETTINGS, encoder) == rows
    other = replace(SETTINGS, loop=replace(SETTINGS.loop, seed=1))
    assert training_rows(examples, passages, other, encoder) != rows


def test_texts_bear_the_prompts_of_the_model(examples, passages, encoder):
    rows = training_rows(examples, passages, SETTINGS, encoder)
    assert all(row.query.startswith("find: how to") for row in rows)
    assert all(text.startswith("text: ") for row in rows for text in (row.positive, *row.negatives))


def test_negatives_are_those_of_the_example_and_positives_never_among_them(examples, passages, encoder):
    for row in training_rows(examples, passages, SETTINGS, encoder):
        assert len(set(row.negatives)) == 2 and row.positive not in row.negatives


def test_too_few_negatives_are_repeated_and_none_at_all_become_random_ones(examples, passages, encoder):
    one, none = replace(examples[0], negative_ids=("p2",)), replace(examples[1], negative_ids=())
    settings = replace(SETTINGS, batch_size=2)
    for row in training_rows([one, none], passages, settings, encoder):
        if row.query.endswith(one.text):
            assert row.negatives == (row.negatives[0],) * 2 and "Copy a file" in row.negatives[0]
        else:
            assert len(set(row.negatives)) == 2
            assert not any("directory tree" in text or "Copy a file" in text for text in row.negatives)


def test_a_query_that_every_passage_answers_is_refused(examples, passages, encoder):
    everything = replace(examples[0], positive_ids=tuple(passages["passage_id"]), negative_ids=())
    with pytest.raises(ValueError, match="q1: there is no negative"):
        training_rows([everything] * 4, passages, SETTINGS, encoder)


def test_too_few_examples_are_refused(examples, passages, encoder):
    with pytest.raises(ValueError, match="3 examples for batches of 4"):
        training_rows(examples[:3], passages, SETTINGS, encoder)
