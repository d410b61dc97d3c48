import getpass
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest

from ragsmith.collect import sample as sample_module
from ragsmith.collect.documents import document_table
from ragsmith.collect.sample import sample_documents


def test_two_readings_are_the_same_to_the_letter(sample) -> None:
    again = document_table(sample_documents())
    pd.testing.assert_frame_equal(sample.documents, again)


def test_nothing_that_it_reads_is_imported_here() -> None:
    before = set(sys.modules)
    found = sample_documents()
    assert {document.uri for document in found} >= {"python:wsgiref.headers", "python:sqlite3", "python:zipapp"}
    assert set(sys.modules) == before


def test_it_has_thousands_of_distinct_passages_of_hundreds_of_documents(sample) -> None:
    assert len(sample.documents) >= 250
    assert len(sample.passages) >= 4000
    texts = sample.passages["text"].str.split().str.join(" ").str.casefold()
    assert texts.is_unique and sample.passages["passage_id"].is_unique


def test_every_passage_is_an_exact_slice_of_its_document(sample) -> None:
    text_of = dict(zip(sample.documents["document_id"], sample.documents["text"], strict=True))
    for passage in sample.cut.itertuples(index=False):
        assert passage.text == text_of[passage.document_id][passage.start : passage.end]


def test_nothing_of_this_machine_is_in_it(sample) -> None:
    own = {sys.prefix, sys.base_prefix, sys.executable, str(Path.home()) + "/", str(Path.cwd()), "/ragsmith-sample-"}
    own -= {"/usr", "/usr/local", "//"}  # where half of the documentation says that Python lies
    own |= {f"/{getpass.getuser()}/", f"{socket.gethostname()}."}
    text = "\n".join(sample.documents["text"])
    assert [name for name in own if name in text] == []
    # Some editions of the language topics show an address in an example; objects of this process are in modules alone.
    modules = sample.documents[~sample.documents["uri"].str.contains("topic:")]
    assert not modules["text"].str.contains(" at 0x", regex=False).any()


def test_a_function_is_a_section_with_its_signature_and_docstring(sample) -> None:
    passages = sample.passages.set_index("title")
    assert passages.loc["shutil.disk_usage", "text"].startswith(
        "shutil.disk_usage(path)\n\nReturn disk usage statistics"
    )
    assert "with" in sample.documents.set_index("uri").loc["python:topic:with", "text"]


def test_only_the_modules_asked_for_are_kept_in_the_order_asked() -> None:
    found = sample_documents(["textwrap", "topic:with", "glob"])
    assert [document.uri for document in found] == ["python:textwrap", "python:topic:with", "python:glob"]


def test_a_module_that_is_not_in_the_corpus_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"Not in this interpreter's sample corpus: no_such, tkinter\."):
        sample_documents(["glob", "no_such", "tkinter"])


@pytest.mark.parametrize(
    "script",
    [
        "import sys; sys.exit('broken')",
        'import sys; open(sys.argv[1], \'w\').write(\'{"name": "a", "ti\')',
        'import sys; open(sys.argv[1], \'w\').write(\'{"name": "a", "title": "a", "markdown": "a"}\\n\')',
        'import sys; open(sys.argv[1], \'w\').write(\'{"name": "a"}\\n{"written": 2}\\n\')',
        "import os, sys; open(sys.argv[1], 'w').write('{\"written\": 0}\\n').real; os.kill(os.getpid(), 9)",
        "pass",
    ],
    ids=["fails", "half a line", "no count", "wrong count", "killed", "writes nothing"],
)
def test_a_reading_that_is_cut_short_is_never_taken_for_a_whole_one(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(script, "utf-8")
    monkeypatch.setattr(sample_module, "SCRIPT", tmp_path / "script.py")
    with pytest.raises(RuntimeError, match="Reading the interpreter's reference failed"):
        sample_documents()
