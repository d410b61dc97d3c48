"""Artefacts appear whole or not at all, whatever kills the process, and never over a file of the user's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ragsmith.store import (
    Provenance,
    altered_files,
    content_hash,
    is_complete,
    publish_directory,
    publish_file,
    read_metadata,
    recording,
    recover,
)

PROVENANCE = Provenance("train", "f1", {"mined": "abc"})


def write_text(text: str):
    return lambda path: path.write_text(text)


def write_model(text: str):
    def write(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "weights").mkdir()
        (folder / "weights" / "model.safetensors").write_text(text)

    return write


def publish(kind: str, target: Path, text: str) -> None:
    if kind == "file":
        publish_file(target, write_text(text))
    else:
        publish_directory(target, write_model(text))


def content(kind: str, target: Path) -> str:
    return (target if kind == "file" else target / "weights" / "model.safetensors").read_text()


def staging_left(target: Path) -> list[Path]:
    return [path for path in target.parent.iterdir() if ".staging-" in path.name]


def test_published_file_is_complete_and_says_what_it_was_made_from(tmp_path):
    target = tmp_path / "new" / "run.trec"
    with recording(PROVENANCE):
        publish_file(target, write_text("q1 Q0 p1 1"))
    metadata = read_metadata(target)
    assert is_complete(target) and metadata is not None
    assert metadata.provenance == PROVENANCE and metadata.size == 10 and list(metadata.files) == ["run.trec"]
    assert sorted(path.name for path in target.parent.iterdir()) == [".run.trec.meta.json", "run.trec"]


def test_published_directory_is_complete_and_holds_its_metadata(tmp_path):
    target = tmp_path / "retriever"
    publish_directory(target, write_model("w"), PROVENANCE)
    metadata = read_metadata(target)
    assert is_complete(target) and metadata is not None and metadata.provenance == PROVENANCE
    assert sorted(metadata.files) == ["config.json", "weights/model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["retriever"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_second_publication_replaces_the_first_and_leaves_nothing_behind(tmp_path, kind):
    target = tmp_path / "out"
    publish(kind, target, "old")
    first = content_hash(target)
    publish(kind, target, "new")
    assert content(kind, target) == "new" and is_complete(target) and content_hash(target) != first
    assert not staging_left(target) and not list(tmp_path.glob("*.altered-*"))


@pytest.mark.parametrize(("before", "after"), [("file", "directory"), ("directory", "file")])
def test_artefact_may_become_of_the_other_kind(tmp_path, before, after):
    target = tmp_path / "out"
    publish(before, target, "old")
    publish(after, target, "new")
    assert content(after, target) == "new" and is_complete(target)


def test_writer_that_fails_leaves_the_old_artefact(tmp_path):
    target = tmp_path / "out"
    publish("directory", target, "old")

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish_directory(target, fail)
    assert content("directory", target) == "old" and is_complete(target) and not staging_left(target)


# The child is killed at the n-th thing that it does to the file system, for every n until it ends by itself.
CHILD = """
import os, signal, sys
from pathlib import Path
from ragsmith.store import publish_directory, publish_file
kind, target, moment = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
count = 0
def watch(event, args):
    global count
    if event in ("os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "shutil.rmtree") or (
        event == "open" and isinstance(args[0], (str, Path)) and str(target.parent) in str(args[0])
    ):
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
def write(path):
    (path / "weights").mkdir()
    (path / "config.json").write_text("{}")
    (path / "weights" / "model.safetensors").write_text("new")
sys.addaudithook(watch)
if kind == "file":
    publish_file(target, lambda path: path.write_text("new"))
else:
    publish_directory(target, write)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_kill_at_any_moment_leaves_the_old_or_the_new_artefact_and_can_be_repeated(tmp_path, kind):
    seen = set()
    for moment in range(1, 100):
        target = tmp_path / str(moment) / "out"
        publish(kind, target, "old")
        (target.parent / "mine.txt").write_text("mine")
        child = subprocess.run([sys.executable, "-c", CHILD, kind, target, str(moment)], env=dict(os.environ))
        if is_complete(target):
            assert content(kind, target) in ("old", "new")
        recover(target)
        assert is_complete(target), f"killed at moment {moment}"
        assert not staging_left(target)
        seen.add(content(kind, target))
        publish(kind, target, "newest")
        assert content(kind, target) == "newest" and is_complete(target)
        names = {"out", "mine.txt"} | ({".out.meta.json"} if kind == "file" else set())
        assert {path.name for path in target.parent.iterdir()} == names
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
    assert child.returncode == 0 and moment > 8 and seen == {"old", "new"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_first_publication_that_was_killed_between_data_and_metadata_is_not_taken_for_the_users(tmp_path, kind):
    for moment in range(1, 100):
        target = tmp_path / str(moment) / "out"
        target.parent.mkdir()
        child = subprocess.run([sys.executable, "-c", CHILD, kind, target, str(moment)], env=dict(os.environ))
        publish(kind, target, "again")
        assert content(kind, target) == "again" and is_complete(target) and not staging_left(target)
        if child.returncode == 0:
            break


def test_what_a_living_process_stages_is_left_alone(tmp_path):
    target = tmp_path / "out"

    def write(path: Path) -> None:
        publish_file(target, write_text("inner"))
        path.write_text("outer")

    publish_file(target, write)
    assert target.read_text() == "outer" and is_complete(target)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_file_or_folder_of_the_users_is_never_overwritten(tmp_path, kind):
    a_file, a_folder = tmp_path / "documents.parquet", tmp_path / "model"
    a_file.write_text("mine")
    a_folder.mkdir()
    (a_folder / "notes.txt").write_text("mine")
    for target in (a_file, a_folder):
        with pytest.raises(FileExistsError, match="Move it away"):
            publish(kind, target, "ours")
    assert a_file.read_text() == "mine" and (a_folder / "notes.txt").read_text() == "mine"


def test_artefact_that_a_person_changed_is_kept_beside_the_new_one(tmp_path):
    target = tmp_path / "answers.json"
    publish_file(target, write_text("ours"))
    target.write_text("corrected by hand")
    publish_file(target, write_text("ours again"))
    kept = list(tmp_path.glob("answers.json.altered-*"))
    assert target.read_text() == "ours again" and [path.read_text() for path in kept] == ["corrected by hand"]


def test_link_is_refused_as_target_and_inside_an_artefact(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is a link to"):
        publish_file(link, write_text("ours"))
    with pytest.raises(ValueError, match="cannot hold the link secret"):
        publish_directory(tmp_path / "out", lambda folder: (folder / "secret").symlink_to(elsewhere))
    assert elsewhere.read_text() == "mine" and link.is_symlink() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_writer_that_leaves_nothing_is_refused(tmp_path, kind):
    published = publish_file if kind == "file" else publish_directory
    with pytest.raises(ValueError, match="Nothing was written"):
        published(tmp_path / "out", lambda path: None)


def test_files_are_as_readable_as_the_persons_umask_says(tmp_path):
    def private(path: Path) -> None:
        path.write_text("x")
        path.chmod(0o600)

    before = os.umask(0o027)
    try:
        publish_file(tmp_path / "a", private)
        publish_directory(tmp_path / "b", lambda folder: private(folder / "c"))
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", ".a.meta.json", "b/c", "b")]
    assert modes == [0o640, 0o640, 0o640, 0o750]


def test_metadata_of_a_copied_artefact_is_not_taken_over(tmp_path):
    publish_directory(tmp_path / "base", write_model("w"), PROVENANCE)

    def copy(folder: Path) -> None:
        for name in ("config.json", "_artefact.json"):
            (folder / name).write_bytes((tmp_path / "base" / name).read_bytes())

    publish_directory(tmp_path / "copy", copy)
    metadata = read_metadata(tmp_path / "copy")
    assert metadata is not None and metadata.provenance is None and not altered_files(tmp_path / "copy")
