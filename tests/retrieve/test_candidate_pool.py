import pandas as pd
import pytest

from ragsmith.retrieve.candidate_pool import read_candidate_pool

PASSAGES = pd.DataFrame({"passage_id": ["p1", "p2", "p3"], "text": ["one\n text", "another", "another"]})


def test_ids_and_texts_of_all_files_are_the_pool(tmp_path):
    (tmp_path / "ids.txt").write_text("p1\n\n")
    (tmp_path / "texts.jsonl").write_text('{"text": "another"}\n')
    assert read_candidate_pool(tmp_path, PASSAGES) == {"p1", "p2", "p3"}
    (tmp_path / "ids.txt").write_text("one text")
    (tmp_path / "texts.jsonl").write_text('{"passage_id": "p3", "text": "another"}\n')
    assert read_candidate_pool(tmp_path, PASSAGES) == {"p1", "p3"}


def test_without_files_there_is_no_pool(tmp_path):
    assert read_candidate_pool(tmp_path / "absent", PASSAGES) is None
    assert read_candidate_pool(tmp_path, PASSAGES) is None


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "p1"}', '{"text": 3}', '{"text": " "}'])
def test_a_line_that_is_no_object_is_named_with_its_number(tmp_path, line):
    (tmp_path / "pool.jsonl").write_text('{"text": "another"}\n' + line)
    with pytest.raises(ValueError, match=r"pool\.jsonl:2 is no object"):
        read_candidate_pool(tmp_path, PASSAGES)


def test_lines_end_where_json_has_them_end_and_not_within_a_text(tmp_path):
    (tmp_path / "pool.jsonl").write_text('{"text": "one\u2028text"}\r\n{"passage_id": "p3"}\n', "utf-8")
    assert read_candidate_pool(tmp_path, PASSAGES) == {"p1", "p3"}


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "pool.txt").write_bytes("p1\nüber".encode("latin-1"))
    with pytest.raises(ValueError, match=r"pool\.txt:2: not UTF-8 text"):
        read_candidate_pool(tmp_path, PASSAGES)


def test_a_text_that_is_no_passage_is_named(tmp_path):
    (tmp_path / "pool.txt").write_text("p1\nelsewhere")
    with pytest.raises(ValueError, match=r"pool\.txt:2 lists 'elsewhere', which is neither"):
        read_candidate_pool(tmp_path, PASSAGES)
