import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ragsmith.cli import cli
from ragsmith.evaluate.history import keep_version


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
    assert answer.keys() == {"question", "text", "sentence", "score", "hit", "hits", "quoted"}
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


COMPARE = "import logging; logging.disable(logging.INFO); from ragsmith.cli import cli; cli()"


def compare(*arguments):
    """In a process of its own: Kedro sets up logging for the whole process when it looks for the project."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
    )
    return SimpleNamespace(exit_code=done.returncode, output=done.stdout + done.stderr, stdout=done.stdout)


@pytest.fixture
def project(tmp_path, monkeypatch, publish_evaluation):
    """A project of two kept versions; of the latest, ten answers more are wrong."""
    root = tmp_path / "project"
    for name in ("src/own", "conf/base", "conf/local"):
        (root / name).mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "own"\nproject_name = "own"\nkedro_init_version = "1.7.0"\n'
    )
    (root / "src/own/__init__.py").touch()
    (root / "src/own/settings.py").write_text("")
    (root / "src/own/pipeline_registry.py").write_text("def register_pipelines():\n    return {}\n")
    (root / "conf/base/parameters.yml").write_text("{}")
    (root / "conf/base/catalog.yml").write_text(
        "history:\n  type: ragsmith.datasets.WorkDirectory\n  filepath: data/08_reporting/history\n"
    )
    reporting, ranks = root / "data/08_reporting", [1] * 20
    for em, epochs in (([1.0] * 20, 1), ([0.0] * 10 + [1.0] * 10, 2)):
        publish_evaluation(reporting, em, run={"retriever": {"epochs": epochs}}, rank_tuned=ranks)
        keep_version(reporting, reporting / "history")
    monkeypatch.chdir(root)
    return root


def test_compare_shows_differences_questions_and_settings(project):
    result = compare("previous", "latest", "--limit", 3)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.replace("│", " ").split()) for line in result.output.splitlines()]
    assert any(line.startswith("EM 1.000 0.500 -0.500 [") and line.endswith("B is worse") for line in lines)
    assert any(line.startswith("MRR@10 tuned 1.000 1.000 +0.000") for line in lines)
    assert "20 questions compared" in lines and "answers by EM, then F1: 0 won, 10 lost, 10 tied" in lines
    assert "lost by B (3 of 10)" in lines and "What is number 0? [q0]" in lines
    assert "A: answer 0 (EM 1, F1 1.00)" in lines and "B: – (EM 0, F1 0.00)" in lines
    assert "retriever.epochs: 1 → 2" in lines
    assert compare("previous", "--limit", 3).output == result.output  # against the latest


def test_compare_without_arguments_lists_the_versions_newest_first(project):
    names = sorted(path.name for path in (project / "data/08_reporting/history").iterdir())
    result = compare()
    assert result.exit_code == 0 and 0 < result.output.index(names[1]) < result.output.index(names[0])
    assert "kedro compare previous latest" in result.output
    rows = json.loads(compare("--json").stdout)
    assert [row["version"] for row in rows] == names[::-1]
    assert [row["em"] for row in rows] == [0.5, 1.0] and rows[0]["questions"] == 20


def test_damaged_version_is_listed_as_such(project):
    newest = max((project / "data/08_reporting/history").iterdir())
    (newest / "metrics.json").write_text("{")
    result = compare()
    assert result.exit_code == 0 and "cannot be read" in result.output
    result = compare("previous", "latest")
    assert result.exit_code == 1 and "metrics.json was altered or cut short" in result.output


def test_project_without_versions_says_how_to_get_one(project):
    shutil.rmtree(project / "data/08_reporting/history")
    assert compare().output == "No version is kept yet: a run of the evaluation pipeline keeps one.\n"
    assert compare("--json").output == "[]\n"


def test_compare_as_json_holds_every_question(project):
    result = json.loads(compare("previous", "latest", "--json", "--metric", "em", "--samples", 200).stdout)
    assert [row["metric"] for row in result["comparisons"]] == ["em"]
    assert len(result["outcomes"]["lost"]["rows"]) == 10 and result["worse"] == []


def test_significant_loss_ends_with_two_and_any_other_result_with_zero(project):
    lost = compare("previous", "latest", "--fail-if-worse", "em")
    assert lost.exit_code == 2 and "worse: EM -0.500" in lost.output
    assert json.loads(compare("previous", "--fail-if-worse", "em", "--json").stdout)["worse"][0]["metric"] == "em"
    assert compare("latest", "previous", "--fail-if-worse", "em").exit_code == 0  # better
    assert compare("previous", "latest", "--fail-if-worse", "mrr@5").exit_code == 0  # the same
    # Looking at another metric does not switch the check off.
    assert compare("previous", "latest", "--fail-if-worse", "em", "--metric", "mrr@10").exit_code == 2


def test_page_is_written_whole_and_no_file_of_the_users_is_replaced(project):
    assert compare("previous", "latest", "--html", "page.html").exit_code == 0
    assert (project / "page.html").read_text("utf-8").rstrip().endswith("</html>")
    assert compare("previous", "latest", "--html", "page.html").exit_code == 0  # our own is
    (project / "mine.html").write_text("mine")
    result = compare("previous", "latest", "--html", "mine.html")
    assert result.exit_code == 1 and "mine.html is in the way" in result.output
    assert (project / "mine.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing", "latest"], "'nothing' is no version and no folder"),
        (["2", "latest"], "beginning or end of 2 versions"),
        (["previous", "latest", "--metric", "ndgc@10"], "'ndgc@10' is no metric of both versions. There are: 'em'"),
        (["previous", "latest", "--fail-if-worse", "nothing"], "'nothing' is no metric of both versions"),
        (["previous", "latest", "--html", "data"], "File 'data' is a directory"),
        (["previous", "latest", "--samples", "0"], "0 is not in the range"),
        (["previous", "latest", "third"], "Got unexpected extra argument"),
        (["previous", "--nope"], "No such option '--nope'"),
        (["previous", "--env", "nowhere"], "There is no environment 'nowhere'"),
    ],
)
def test_bad_comparison_ends_with_one_and_a_plain_message_and_no_traceback(project, arguments, told):
    result = compare(*arguments)
    assert result.exit_code == 1 and told in result.output and "Traceback" not in result.output


def test_outside_of_a_project_runs_are_named_by_their_paths(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compare("project", "project/data/08_reporting/metrics.json")
    assert result.exit_code == 0 and "0 won, 0 lost, 20 tied" in result.output
    assert compare("latest", "project").exit_code == 1
    assert compare().output.startswith("No version is kept yet")


def test_texts_of_a_stranger_do_not_steer_the_terminal(project, publish_evaluation, tmp_path):
    evil = "[bold]x[/nope]\x1b[2J\x9b31m\u202e\nnext"
    column = {f"ndcg@10_{evil}": [1.0] * 3}
    for name, em in (("one", [0.0, 1.0, 1.0]), ("two", [1.0, 0.0, 1.0])):
        texts = {"query": [evil] * 3, "answer": [evil * 9_000] * 3, "query_id": [f"{evil}{n}" for n in range(3)]}
        publish_evaluation(tmp_path / evil.replace("/", "") / name, em, run={evil: name}, **texts, **column)
    folders = [tmp_path / evil.replace("/", "") / name for name in ("one", "two")]
    result = compare(*folders)
    assert result.exit_code == 0, result.output
    assert not set("\x1b\x9b\u202e") & set(result.output) and "[bold]x[/nope]" in result.output
    assert max(map(len, result.output.splitlines())) < 400
