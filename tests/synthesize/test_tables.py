import pandas as pd
import pytest

from ragsmith.synthesize.tables import ANSWER_COLUMNS, QUERY_COLUMNS, example_tables, gold_tables, heading_answers

GOLD = pd.DataFrame(
    {
        "query_id": ["g-1", "g-2"],
        "text": ["How much?", "Who?"],
        "passage_ids": [["p1", "p2"], ["p3"]],
        "answers": [["a", "b"], ["c"]],
        "document_ids": [["d1", "d2"], ["d3"]],
        "file": ["mine", "mine"],
        "split": ["", ""],
        "supervision": ["judged", "judged"],
    }
)


def splits(**split_of: str) -> pd.DataFrame:
    return pd.DataFrame({"document_id": list(split_of), "split": list(split_of.values())})


def test_gold_becomes_queries_of_its_documents_split_with_all_right_passages() -> None:
    queries, qrels, answers = gold_tables(GOLD, splits(d1="dev", d2="dev", d3="test", d4="train"))
    assert queries.columns.tolist() == QUERY_COLUMNS and answers.columns.tolist() == ANSWER_COLUMNS
    assert queries[["query_id", "kind", "split", "passage_id"]].to_numpy().tolist() == [
        ["g-1", "gold", "dev", "p1"],
        ["g-2", "gold", "test", "p3"],
    ]
    assert qrels.to_numpy().tolist() == [["g-1", "p1", 1], ["g-1", "p2", 1], ["g-2", "p3", 1]]
    assert answers.to_numpy().tolist() == [["g-1", ["a", "b"], "p1", -1, -1], ["g-2", ["c"], "p3", -1, -1]]


@pytest.mark.parametrize(
    ("split_of", "found"),
    [({"d1": "dev", "d2": "test", "d3": "test"}, "dev, test"), ({"d1": "dev", "d2": "dev", "d3": "train"}, "train")],
)
def test_a_gold_question_on_training_or_divided_documents_is_an_error(split_of: dict[str, str], found: str) -> None:
    with pytest.raises(ValueError, match=f"lie in {found}"):
        gold_tables(GOLD, splits(**split_of))


def test_questions_with_answers_alone_have_no_qrels_and_say_where_their_passage_comes_from() -> None:
    table = GOLD.assign(
        passage_ids=[[], ["p3"]], document_ids=[[], []], split=["test", "dev"], supervision=["answers", "distant"]
    )
    queries, qrels, answers = gold_tables(table, splits(d1="train"))
    columns = ["query_id", "split", "origin", "passage_id"]
    assert queries[columns].to_numpy().tolist() == [["g-1", "test", "answers", ""], ["g-2", "dev", "distant", "p3"]]
    assert qrels.to_numpy().tolist() == [["g-2", "p3", 1]]
    assert answers.to_numpy().tolist() == [["g-1", ["a", "b"], "", -1, -1], ["g-2", ["c"], "p3", -1, -1]]
    queries, qrels, answers = example_tables(table)
    assert queries[columns].to_numpy().tolist() == [["e-1", "train", "answers", ""], ["e-2", "train", "distant", "p3"]]
    assert qrels.to_numpy().tolist() == [["e-2", "p3", 1]] and len(answers) == 2


def test_no_gold_gives_empty_tables_with_all_columns() -> None:
    queries, qrels, answers = gold_tables(GOLD[:0], splits(d1="train"))
    assert (len(queries), len(qrels), len(answers)) == (0, 0, 0)
    assert queries.columns.tolist() == QUERY_COLUMNS


def test_examples_are_training_queries_with_all_their_right_passages_and_ids_of_their_own() -> None:
    queries, qrels, answers = example_tables(GOLD)
    assert queries.columns.tolist() == QUERY_COLUMNS
    assert set(queries["origin"]) == {"written"}
    assert queries[["query_id", "kind", "split", "file", "passage_id", "cut_end"]].to_numpy().tolist() == [
        ["e-1", "example", "train", "mine", "p1", 0],
        ["e-2", "example", "train", "mine", "p3", 0],
    ]
    assert qrels.to_numpy().tolist() == [["e-1", "p1", 1], ["e-1", "p2", 1], ["e-2", "p3", 1]]
    assert answers[["query_id", "answers"]].to_numpy().tolist() == [
        [f"e-{number}", row] for number, row in enumerate(GOLD["answers"], start=1)
    ]


def test_the_answer_is_the_name_in_the_heading_and_its_span_is_exact() -> None:
    texts = {
        "p1": "shutil.copy(src, dst)\n\nCopy a file.",
        "p2": "shutil.copy2(src)\n\nCopy.",
        "p3": "Copying trees ##\n\nx",
    }
    passages = pd.DataFrame({"passage_id": list(texts), "text": list(texts.values())})
    queries = pd.DataFrame({"query_id": ["q1", "q2"], "passage_id": ["p1", "p3"]})
    pairs = pd.DataFrame({"query_id": ["q1", "q1", "q2"], "passage_id": ["p1", "p2", "p3"]})
    answers = heading_answers(queries, pairs, passages)
    assert answers["answers"].tolist() == [["shutil.copy", "shutil.copy2"], ["Copying trees"]]
    spans = [texts[row.passage_id][row.start : row.end] for row in answers.itertuples(index=False)]
    assert spans == ["shutil.copy", "Copying trees"]
