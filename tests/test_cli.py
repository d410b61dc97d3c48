import json
import shutil

import pytest
from click.testing import CliRunner

from ragsmith.cli import cli


def ask(*arguments):
    return CliRunner().invoke(cli, ["ask", *map(str, arguments)])


def test_question_gets_an_answer_the_passage_and_what_else_was_found(tiny_bundle):
    result = ask("delete a directory tree", "--bundle", tiny_bundle, "-k", 2, "--mode", "bm25")
    assert result.exit_code == 0, result.output
    assert "from: shutil.rmtree (rank 1), reader score" in result.output
    assert "  | Delete an entire directory tree. It is gone." in result.output
    assert "passages found:\n  1. " in result.output


def test_json_holds_the_answer_and_as_many_passages_as_asked(tiny_bundle):
    result = ask("delete a directory tree", "--bundle", tiny_bundle, "-k", 3, "--mode", "dense", "--json")
    answer = json.loads(result.stdout)
    assert answer.keys() == {"question", "text", "sentence", "score", "hit", "hits"}
    assert answer["question"] == "delete a directory tree" and answer["text"] in answer["hit"]["text"]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert answer["hits"][0].keys() == {"passage_id", "document_id", "title", "text", "score", "cosine", "rank"}


def test_json_of_nothing_found_parses_too(tiny_bundle):
    answer = json.loads(ask("zzz", "--bundle", tiny_bundle, "--mode", "bm25", "--json").stdout)
    assert answer["hit"] is None and answer["hits"] == [] and answer["text"] == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["  "], "The question is empty."),
        (["w" * 2001], "at most 2000 are read"),
        (["caf\udce9"], "not valid UTF-8"),
        (["what", "-k", "0"], "0 is not in the range 1<=x<=100"),
        (["what", "--mode", "sparse"], "'sparse' is not one of"),
    ],
)
def test_bad_question_ends_with_one_line_and_no_traceback(tiny_bundle, arguments, told):
    result = ask(*arguments, "--bundle", tiny_bundle)
    assert result.exit_code != 0 and told in result.output and isinstance(result.exception, SystemExit)


def test_folder_that_is_no_bundle_says_how_to_get_one(tmp_path):
    result = ask("what", "--bundle", tmp_path)
    assert result.exit_code == 1 and "manifest.json is not there. Run: kedro run" in result.output


def test_altered_bundle_is_refused_by_the_name_of_the_file(tiny_bundle, tmp_path):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with (bundle / "reader/model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    result = ask("what", "--bundle", bundle)
    assert result.exit_code == 1 and "reader/model.safetensors was altered or cut short" in result.output


def test_outside_of_a_project_a_bundle_must_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ask("what")
    assert result.exit_code == 1 and "give --bundle FOLDER" in result.output
