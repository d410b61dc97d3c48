"""Records as tables: passages at the boundaries that they came with, documents that hold them."""

from ragsmith.collect.documents import document_table
from ragsmith.collect.exchange.record_set import Answer, RecordDocument, RecordQuestion, RecordSet, merged, passage_id
from ragsmith.collect.exchange.tables import record_documents, record_passages, record_questions

A = RecordDocument("squad:A", "A", ("  First,\r\nwith spaces. ", "Second."))
B = RecordDocument("squad:B", "B", ("Second.",))


def test_each_passage_is_an_exact_slice_of_its_document() -> None:
    records = RecordSet((A, B))
    documents = document_table(record_documents(records)).set_index("document_id")
    table = record_passages(records)
    assert table["text"].tolist() == ["  First,\r\nwith spaces. ", "Second.", "Second."]
    for row in table.itertuples(index=False):
        assert documents.at[row.document_id, "text"][row.start : row.end] == row.text
        assert documents.at[row.document_id, "source"] == "records"
    assert table["passage_id"].is_unique and set(table["passage_id"]) == set(records.texts())


def test_a_document_in_two_files_holds_the_passages_of_both_once_under_the_same_ids() -> None:
    more = RecordDocument("squad:A", "A", ("Second.", "Third."))
    both = merged([RecordSet((A,)), RecordSet((more,))])
    assert [document.passages for document in both.documents] == [("  First,\r\nwith spaces. ", "Second.", "Third.")]
    assert passage_id(A.document_id, "Second.") in both.texts()


def test_questions_keep_passages_scores_answers_and_split() -> None:
    asked = RecordQuestion(
        "f:1", " Who? ", ("p1",), ("p2",), (7,), (2,), (Answer("me", "p1", 0), Answer("me", "p1", 4)), "dev", "f"
    )
    (row,) = record_questions(RecordSet((), (asked,))).to_dict("records")
    assert row == {
        "text": "Who?",
        "passage_ids": ["p1"],
        "positive_scores": [7.0],
        "negative_ids": ["p2"],
        "negative_scores": [2.0],
        "answers": ["me"],
        "split": "dev",
        "origin": "f",
    }
