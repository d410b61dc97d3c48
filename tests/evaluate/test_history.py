import re
import subprocess
import sys
import time

import pytest

from ragsmith.evaluate.history import find_version, keep_version, version_names
from ragsmith.evaluate.saved_version import read_version
from ragsmith.store import IncompleteArtefact, Provenance, is_complete, read_metadata, recording

# Dies in the middle of keeping a version, as if killed: once its files are copied, or once they are sealed.
KILLED = """
import os, shutil, sys
from pathlib import Path
import ragsmith.store.publish as publish
from ragsmith.evaluate import history
moment, reporting, kept = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
def die(*_):
    os.kill(os.getpid(), 9)
setattr(publish, {"copied": "_seal", "sealed": "_place_directory"}[moment], die)
history.keep_version(reporting, kept)
"""


@pytest.fixture
def reporting(tmp_path, publish_evaluation):
    return publish_evaluation(tmp_path / "data/08_reporting", [0.0, 1.0, 1.0])


@pytest.fixture
def history(reporting):
    return reporting / "history"


@pytest.fixture
def three(reporting, history, publish_evaluation):
    """Names of three versions, the oldest first."""
    names = [keep_version(publish_evaluation(reporting, em), history) for em in ([0.0, 0.0], [0.0, 1.0], [1.0, 1.0])]
    return names


def test_version_is_a_whole_copy_with_time_and_content_in_its_name(reporting, history):
    name = keep_version(reporting, history)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", name) and name.startswith(time.strftime("%Y%m%d", time.gmtime()))
    assert is_complete(history / name)
    for file in ("metrics.json", "per_query.parquet"):
        assert (history / name / file).read_bytes() == (reporting / file).read_bytes()
    assert sorted(path.name for path in (history / name).iterdir())[1:] == ["metrics.json", "per_query.parquet"]


def test_version_remembers_what_it_was_made_from(tmp_path, history, publish_evaluation):
    made_from = Provenance("score", "0123", {"passages": "abc"})
    with recording(made_from):
        reporting = publish_evaluation(tmp_path / "other", [0.0, 1.0])
    assert read_metadata(history / keep_version(reporting, history)).provenance == made_from


def test_same_outputs_are_kept_once_and_the_same_again_after_others(reporting, history, publish_evaluation):
    first = keep_version(reporting, history)
    assert keep_version(reporting, history) is None
    other = keep_version(publish_evaluation(reporting, [1.0, 1.0]), history)
    again = keep_version(publish_evaluation(reporting, [0.0, 1.0, 1.0]), history)
    assert version_names(history) == [first, other, again]
    assert first.partition("-")[2] == again.partition("-")[2] != other.partition("-")[2]


def test_name_depends_on_both_files(reporting, history, publish_evaluation):
    first = keep_version(reporting, history)
    second = keep_version(publish_evaluation(reporting, [0.0, 1.0, 1.0], run={"seed": 1}), history)
    third = keep_version(
        publish_evaluation(reporting, [0.0, 1.0, 1.0], run={"seed": 1}, answer=["a", "b", "c"]), history
    )
    assert len({name.partition("-")[2] for name in (first, second, third)}) == 3


def test_names_sort_by_time_even_within_a_second_and_when_the_clock_was_put_back(three, history):
    assert version_names(history) == three
    (history / three[0]).rename(history / f"20990101T000000Z-{'0' * 8}")
    keep_version(history.parent, history)
    assert version_names(history)[-1].startswith("20990101T000001Z-")


@pytest.mark.parametrize(("moment", "kept_before"), [("copied", 0), ("sealed", 1)])
def test_killed_while_keeping_leaves_a_whole_version_or_none_and_no_litter(reporting, history, moment, kept_before):
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, str(reporting), str(history)])
    assert killed.returncode == -9
    assert version_names(history) == [] and any(history.iterdir())
    again = keep_version(reporting, history)
    assert (again is None) == bool(kept_before)  # a sealed one was finished, and is the newest already
    (name,) = version_names(history)
    assert is_complete(history / name) and [path.name for path in history.iterdir()] == [name]


@pytest.mark.parametrize("file", ["metrics.json", "per_query.parquet"])
def test_outputs_that_are_missing_or_altered_are_not_kept(reporting, history, file):
    with (reporting / file).open("ab") as end:
        end.write(b" ")
    with pytest.raises(IncompleteArtefact, match=file):
        keep_version(reporting, history)
    (reporting / file).unlink()
    with pytest.raises(IncompleteArtefact, match=f"{file} does not exist"):
        keep_version(reporting, history)
    assert not history.exists()


def test_altered_newest_version_does_not_stand_for_the_outputs(reporting, history):
    first = keep_version(reporting, history)
    (history / first / "metrics.json").write_text("{}")
    second = keep_version(reporting, history)
    assert version_names(history) == [first, second]
    with pytest.raises(ValueError, match=r"metrics\.json was altered"):
        read_version(history / first)


def test_versions_are_found_by_name_part_of_it_and_place_in_time(three, history):
    oldest, middle, newest = three
    assert find_version("latest", history) == history / newest
    assert find_version("previous", history) == history / middle
    assert find_version(oldest, history) == history / oldest
    assert find_version(oldest[:-1], history) == find_version(oldest[-8:], history) == history / oldest


def test_versions_are_found_by_path(three, reporting, history, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("data/08_reporting/metrics.json", "data/08_reporting", "data", ".", str(tmp_path)):
        assert find_version(path, None).resolve() == reporting
    assert find_version(str(history / three[0]), None) == history / three[0]
    monkeypatch.chdir(reporting)
    assert find_version("metrics.json", None).resolve() == reporting


def test_a_name_is_not_taken_for_a_folder_of_that_name_without_a_version(three, history, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / three[0][-8:]).mkdir()
    assert find_version(three[0][-8:], history) == history / three[0]


@pytest.mark.parametrize("wanted", ["", "  ", "nothing", "/nowhere", "a\0b", "~nobody-at-all/x", "x" * 100_000, ".."])
def test_unknown_version_is_answered_with_those_that_there_are(three, history, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is no version and no folder") as caught:
        find_version(wanted, history)
    assert f"{three[2]}, {three[1]}, {three[0]}." in str(caught.value) and len(str(caught.value)) < 500


def test_part_of_several_names_is_refused_with_these(three, history):
    with pytest.raises(ValueError, match="beginning or end of 3 versions") as caught:
        find_version(three[0][:4], history)
    assert three[1] in str(caught.value)


def test_without_versions_a_run_is_asked_for(tmp_path, reporting, history):
    for wanted in ("latest", "previous", "2026"):
        with pytest.raises(ValueError, match="No version is kept yet: a run of the evaluation pipeline keeps one"):
            find_version(wanted, history)
    keep_version(reporting, history)
    with pytest.raises(ValueError, match="There is no previous version: Versions, the newest first: 2"):
        find_version("previous", history)
    assert version_names(None) == version_names(tmp_path / "none") == []


def test_other_things_in_the_history_are_no_versions(three, history):
    (history / "notes").mkdir()
    (history / f"20990101T000000Z-{'0' * 8}").write_text("a file")
    assert version_names(history) == three
