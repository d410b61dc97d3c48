import pandas as pd
import pytest

from ragsmith.synthesize.structural import (
    QUERY_COLUMNS,
    base_form,
    generate_queries,
    lead_sentence,
    question,
    without_name,
)

TRAIN = pd.DataFrame({"document_id": ["d1"], "split": ["train"]})


def passages(*rows: tuple[str, str]) -> pd.DataFrame:
    ids = [f"p{number}" for number in range(len(rows))]
    titles, texts = zip(*rows, strict=True)
    return pd.DataFrame({"passage_id": ids, "document_id": "d1", "title": titles, "text": texts})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Return the size. More text.", "Return the size"),
        ("Return the size, e.g. in bytes. More.", "Return the size, e.g. in bytes"),
        ("Return the size of f.txt in bytes", "Return the size of f.txt in bytes"),
        ("Copy the tree\nto another place.\n\nMore.", "Copy the tree to another place"),
        ("A list without a full stop\n\nMore text here.", "A list without a full stop"),
        ("f(a, b) -> int\n\nAdd two numbers.", "Add two numbers"),
        (">>> f(1)\nAdd two numbers.", "Add two numbers"),
        ("========\nAdd two numbers.", "Add two numbers"),
        ("Größe des Baums! Mehr.", "Größe des Baums"),
    ],
)
def test_the_lead_is_the_first_sentence_that_says_something(body: str, sentence: str) -> None:
    text = f"f(a, b)\n\n{body}"
    lead = lead_sentence(text, "f(a, b)")
    assert lead is not None and lead.text == sentence
    # The stretch that training leaves out is the sentence with the mark that ends it.
    assert " ".join(text[lead.start : lead.end].split()).rstrip(".!") == sentence


@pytest.mark.parametrize("body", ["", "\n\n", "See also.", "f(a) -> int", "word " * 100 + ".", "1 2 3 4 5."])
def test_a_passage_that_says_nothing_has_no_lead(body: str) -> None:
    assert lead_sentence(f"f(a)\n\n{body}", "f(a)") is None


@pytest.mark.parametrize(
    ("sentence", "name", "bare"),
    [
        ("shutil.disk_usage() returns the space", "shutil.disk_usage", "returns the space"),
        ("Like namedtuple but mutable", "collections.namedtuple", "Like namedtuple but mutable"),
        ("Call copy() to copy a file", "shutil.copy", "Call to copy a file"),
        ("OrderedDict, a dict that remembers", "collections.OrderedDict", "a dict that remembers"),
        ("Uses md5 and md5sum", "hashlib.md5", "Uses and md5sum"),
    ],
)
def test_what_gives_the_answer_away_is_left_out_and_plain_words_stay(sentence: str, name: str, bare: str) -> None:
    assert without_name(sentence, name) == bare


@pytest.mark.parametrize(
    ("sentence", "choice", "asked"),
    [
        ("Return the number of bytes", 1, "What gives me the number of bytes?"),
        ("Return the number of bytes", 5, "What gives me the number of bytes?"),
        ("Check whether the file is open; else fail", 0, "How can I tell whether the file is open?"),
        ("Returns URL parts", 2, "I need URL parts"),
        ("A class for reading files", 0, "Is there a class for reading files?"),
        ("Copies a file", 0, "How do I copy a file?"),
        ("Copies a file", 3, "copy a file"),
        ("Thread-safe queue of {things}", 0, "Thread-safe queue of {things}"),
        ("Return {key: value} pairs", 0, "How do I get {key: value} pairs?"),
    ],
)
def test_a_sentence_is_asked_as_somebody_would(sentence: str, choice: int, asked: str) -> None:
    assert question(sentence, choice) == asked


@pytest.mark.parametrize(
    ("verb", "base"), [("flushes", "flush"), ("tries", "try"), ("moves", "move"), ("pass", "pass"), ("files", None)]
)
def test_only_listed_verbs_become_requests(verb: str, base: str | None) -> None:
    assert base_form(verb) == base


def test_a_signature_with_a_docstring_gives_a_plain_and_an_asked_query() -> None:
    text = "shutil.rmtree(path)\n\nDelete a whole tree. It is gone."
    queries = generate_queries(passages(("shutil.rmtree", text)), TRAIN)
    assert queries.columns.tolist() == QUERY_COLUMNS
    assert queries["kind"].tolist() == ["lead", "question"]
    assert queries["text"][0] == "Delete a whole tree"
    assert queries["text"][1] in {
        "How do I delete a whole tree?",
        "I want to delete a whole tree",
        "How can I delete a whole tree?",
        "delete a whole tree",
    }
    for query in queries.itertuples(index=False):
        assert text[query.cut_start : query.cut_end] == "Delete a whole tree."
        assert (query.passage_id, query.split, query.origin) == ("p0", "train", "structural")


def test_a_prose_heading_is_a_query_too_and_is_what_training_cuts() -> None:
    text = "Copying whole trees ##\n\nTwo ways are there for it."
    queries = generate_queries(passages(("Guide > Copying whole trees", text)), TRAIN)
    heading = queries[queries["kind"] == "heading"].iloc[0]
    assert heading["text"] == "Copying whole trees"
    assert text[heading["cut_start"] : heading["cut_end"]] == "Copying whole trees ##"


def test_later_pieces_of_a_section_and_other_splits_are_left_out() -> None:
    table = passages(
        ("Guide > Setup", "Setup\n\nRun make in the folder."), ("Guide > Setup", "Then wait for an hour or two.")
    )
    assert set(generate_queries(table, TRAIN)["passage_id"]) == {"p0"}
    elsewhere = pd.DataFrame({"document_id": ["d1", "d2"], "split": ["dev", "train"]})
    assert set(generate_queries(table, elsewhere)["split"]) == {"dev"}
    with pytest.raises(ValueError, match="No query could be made"):
        generate_queries(table, elsewhere[1:])


def test_the_same_input_gives_the_same_queries_with_distinct_ids() -> None:
    table = passages(("a.f", "a.f(x)\n\nOpen the file now."), ("a.g", "a.g(x)\n\nOpen the file now."))
    queries = generate_queries(table, TRAIN)
    assert queries.equals(generate_queries(table, TRAIN))
    assert queries["query_id"].is_unique and len(queries) == 4


def test_text_without_headings_is_an_error_that_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="Give the documents headings"):
        generate_queries(passages(("notes", "Run make in the folder.")), TRAIN)
