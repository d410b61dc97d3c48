import random
from collections import Counter

import pytest

from ragsmith.collect.split import split_documents

DOCUMENTS = [f"d{number:02}" for number in range(20)]


def splits_of(documents: list[str], gold: list[list[str]], dev: float = 0.4, test: float = 0.6, seed: int = 0) -> dict:
    table = split_documents(documents, gold, dev, test, seed)
    assert table["document_id"].tolist() == documents
    return dict(zip(table["document_id"], table["split"], strict=True))


def test_gold_documents_are_never_trained_on_and_all_others_are() -> None:
    gold = [["d00"], ["d01"], ["d02"], ["d03"], ["d04"]]
    split = splits_of(DOCUMENTS, gold)
    assert {split[document] for (document,) in gold} == {"dev", "test"}
    assert {split[document] for document in DOCUMENTS[5:]} == {"train"}


def test_the_shares_are_counted_in_questions_and_not_in_documents() -> None:
    gold = [["d00"]] * 6 + [["d01"], ["d02"], ["d03"], ["d04"]]
    split = splits_of(DOCUMENTS, gold)
    assert split["d00"] == "test"  # 60 % of the questions
    assert {split[document] for document in ("d01", "d02", "d03", "d04")} == {"dev"}


def test_documents_that_answer_one_question_together_stay_together() -> None:
    for seed in range(20):
        split = splits_of(DOCUMENTS, [["d00", "d01"], ["d02", "d01"], ["d03"], ["d04"], ["d05", "d04"]], seed=seed)
        assert split["d00"] == split["d01"] == split["d02"]
        assert split["d04"] == split["d05"]


def test_random_gold_never_puts_the_documents_of_a_question_into_two_splits_or_into_train() -> None:
    draw = random.Random(5)
    for seed in range(50):
        gold = [draw.sample(DOCUMENTS[:12], draw.choice([1, 1, 1, 2])) for _ in range(draw.randint(2, 12))]
        try:
            split = splits_of(DOCUMENTS, gold, seed=seed)
        except ValueError as error:
            assert "hang together" in str(error)
            continue
        found = [{split[document] for document in documents} for documents in gold]
        assert all(len(of_question) == 1 and "train" not in of_question for of_question in found)
        assert {"dev"} in found and {"test"} in found


def test_without_gold_the_documents_themselves_are_divided_by_the_shares() -> None:
    split = splits_of(DOCUMENTS, [], dev=0.1, test=0.2)
    assert Counter(split.values()) == {"train": 14, "dev": 2, "test": 4}


@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_a_few_documents_still_give_each_split_one(count: int) -> None:
    assert set(splits_of(DOCUMENTS[:count], [], dev=0.1, test=0.1).values()) == {"train", "dev", "test"}


def test_the_division_hangs_on_the_seed_and_not_on_the_order() -> None:
    first = splits_of(DOCUMENTS, [], dev=0.2, test=0.2)
    assert first == splits_of(DOCUMENTS[::-1], [], dev=0.2, test=0.2)
    assert any(first != splits_of(DOCUMENTS, [], dev=0.2, test=0.2, seed=seed) for seed in (1, 2, 3))


def test_gold_about_every_document_leaves_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="No document of 2 is left for training"):
        splits_of(["a", "b"], [["a"], ["b"]])


def test_gold_that_hangs_together_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="cannot be divided into dev and test"):
        splits_of(DOCUMENTS, [["d00", "d01"], ["d01", "d02"]])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_documents_without_gold_cannot_be_divided(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} documents cannot be divided"):
        splits_of(DOCUMENTS[:count], [], dev=0.1, test=0.1)


def test_documents_whose_split_is_settled_keep_it_and_the_gold_of_others_is_divided() -> None:
    documents = [f"d{number}" for number in range(20)]
    given = {"d0": "dev", "d1": "test"}
    table = split_documents(documents, [[f"d{number}"] for number in range(2, 12)], 0.4, 0.6, 0, given)
    found = dict(zip(table["document_id"], table["split"], strict=True))
    assert found["d0"] == "dev" and found["d1"] == "test" and found["d19"] == "train"
    assert [found[f"d{number}"] for number in range(2, 12)].count("dev") == 4


def test_with_settled_documents_alone_all_others_train() -> None:
    table = split_documents(["a", "b", "c", "d"], [], 0.1, 0.1, 0, {"a": "dev", "b": "test"})
    assert table["split"].tolist() == ["dev", "test", "train", "train"]


def test_one_group_of_gold_questions_is_enough_when_others_are_settled() -> None:
    table = split_documents(["a", "b", "c", "d"], [["c"]], 0.4, 0.6, 0, {"a": "dev", "b": "test"})
    assert table["split"].tolist()[:2] == ["dev", "test"] and table["split"].tolist()[2] in {"dev", "test"}


def test_documents_train_where_the_questions_to_judge_by_name_none() -> None:
    assert set(split_documents(["a", "b", "c", "d"], [], 0.1, 0.1, 0, {}, all_train=True)["split"]) == {"train"}
    assert set(split_documents(["a"], [], 0.1, 0.1, 0, all_train=True)["split"]) == {"train"}
    table = split_documents(["a", "b", "c", "d"], [], 0.1, 0.1, 0, {"a": "test"}, all_train=True)
    assert table["split"].tolist() == ["test", "train", "train", "train"]
