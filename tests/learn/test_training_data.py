import pandas as pd
import pytest

from ragsmith.learn.training_data import BatchBuilder, training_examples


@pytest.fixture
def builder(queries, mined, passages):
    def make(batch_size=3, negatives=1, cut_probability=0.5, seed=0):
        return BatchBuilder(training_examples(queries, mined), passages, batch_size, negatives, cut_probability, seed)

    return make


def same(one, other):
    return (
        one.queries == other.queries
        and one.passages == other.passages
        and one.targets.tolist() == other.targets.tolist()
        and one.ignored.tolist() == other.ignored.tolist()
    )


def test_examples_hold_text_ids_and_the_stretch_to_cut_in_the_order_of_mining(queries, mined):
    queries.loc[5, "cut_end"] = 0
    examples = training_examples(queries.iloc[::-1], mined)
    assert [example.query_id for example in examples] == ["q1", "q2", "q3", "q4", "q5", "q6"]
    assert examples[1].text == "how to copy" and examples[1].positive_ids == ("p2", "p1")
    assert examples[1].negative_ids == ("p3", "p4") and examples[1].cut == ("p2", 0, 6)
    assert examples[5].cut is None


def test_mined_query_without_text_is_named(queries, mined):
    with pytest.raises(ValueError, match="2 mined queries are not in the table of queries, such as q1"):
        training_examples(queries.iloc[2:], mined)


def test_batch_is_a_function_of_seed_epoch_and_number(builder):
    one, other = builder(), builder()
    other.batch(0, 0)
    other.batch(2, 1)  # what was asked before makes no difference
    assert same(one.batch(1, 1), other.batch(1, 1))
    texts = {tuple(builder(seed=seed).batch(epoch, 0).queries) for seed in range(3) for epoch in range(3)}
    assert len(texts) > 6


def test_epoch_shows_each_query_once(builder):
    made = builder(batch_size=2)
    assert len(made) == 3
    shown = [query for number in range(3) for query in made.batch(4, number).queries]
    assert sorted(shown) == sorted(example.text for example in made.examples)


def test_rest_of_an_epoch_sits_out_and_is_another_one_the_next_time(builder):
    made = builder(batch_size=4)
    assert len(made) == 1
    missing = {frozenset({e.text for e in made.examples} - set(made.batch(epoch, 0).queries)) for epoch in range(6)}
    assert len(missing) > 1


def test_target_is_a_positive_of_its_query_and_each_text_stands_once(builder, passages):
    made = builder(batch_size=6, negatives=2, cut_probability=0)
    text_of = dict(zip(passages["passage_id"], made.texts.values(), strict=True))
    by_text = {example.text: example for example in made.examples}
    for epoch in range(10):
        batch = made.batch(epoch, 0)
        assert len(set(batch.passages)) == len(batch.passages)
        for query, target in zip(batch.queries, batch.targets, strict=True):
            assert batch.passages[target] in [text_of[p] for p in by_text[query].positive_ids]


@pytest.mark.parametrize("cut_probability", [0.0, 0.5, 1.0])
def test_other_right_answers_are_never_pushed_away_and_negatives_always_are(builder, cut_probability):
    made = builder(batch_size=6, negatives=2, cut_probability=cut_probability)
    # a text, whole or cut, belongs to the passage whose title it begins with
    passage_of = {made.texts[p].partition("\n")[0]: p for p in made.texts}
    by_text = {example.text: example for example in made.examples}
    for epoch in range(10):
        batch = made.batch(epoch, 0)
        for row, query in enumerate(batch.queries):
            for place, text in enumerate(batch.passages):
                right = passage_of[text.partition("\n")[0]] in by_text[query].positive_ids
                assert batch.ignored[row, place] == (right and place != batch.targets[row])


def test_source_stretch_is_left_out_of_the_positive_when_asked_always(builder):
    batch = builder(batch_size=6, negatives=0, cut_probability=1).batch(0, 0)
    positive = {query: batch.passages[target] for query, target in zip(batch.queries, batch.targets, strict=True)}
    assert positive["how to json"] == "json\nan object as JSON text."  # "Write " is what the query was taken from
    assert positive["how to sqrt"] == "sqrt\nuare root of a number."


def test_source_stretch_stays_when_never_asked_and_about_half_the_time_between(builder):
    assert "json\nWrite an object as JSON text." in builder(6, 0, 0.0).batch(0, 0).passages
    made = builder(6, 0, 0.5)
    cut = sum("json\nan object as JSON text." in made.batch(epoch, 0).passages for epoch in range(200))
    assert 75 < cut < 125


def test_passage_that_is_nothing_but_its_source_is_not_cut(queries, mined, passages):
    queries.loc[2, "cut_end"] = 1000
    batch = BatchBuilder(training_examples(queries, mined), passages, 6, 0, 1.0, 0).batch(0, 0)
    assert "json\nWrite an object as JSON text." in batch.passages


def test_positive_that_is_not_the_source_is_never_cut(queries, passages):
    mined = pd.DataFrame({"query_id": ["q1"], "positive_ids": [["p2"]], "negative_ids": [[]]})
    batch = BatchBuilder(training_examples(queries, mined), passages, 1, 3, 1.0, 0).batch(0, 0)
    assert batch.passages == ["copy\nCopy a file with its permissions."]  # and without negatives there is no other


def test_as_many_different_negatives_as_asked_come_along(builder):
    made = builder(batch_size=1, negatives=2, cut_probability=0)
    for number in range(6):
        batch = made.batch(0, number)
        example = next(e for e in made.examples if e.text == batch.queries[0])
        assert set(batch.passages[1:]) == {made.texts[p] for p in example.negative_ids}
