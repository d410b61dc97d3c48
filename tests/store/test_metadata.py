"""What is half-written or altered is seen, and named."""

import os
from pathlib import Path

import pytest

from ragsmith.store import (
    IncompleteArtefact,
    altered_files,
    content_hash,
    is_complete,
    publish_directory,
    publish_file,
    read_metadata,
    require_complete,
)


@pytest.fixture
def table(tmp_path) -> Path:
    publish_file(tmp_path / "table", lambda path: path.write_text("0123456789"))
    return tmp_path / "table"


@pytest.fixture
def model(tmp_path) -> Path:
    def write(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_text("0123456789")

    publish_directory(tmp_path / "model", write)
    return tmp_path / "model"


def damage_file(target: Path, how: str) -> None:
    meta = target.with_name(f".{target.name}.meta.json")
    if how == "data without metadata":
        meta.unlink()
    elif how == "metadata without data":
        target.unlink()
    elif how == "truncated":
        target.write_text("01234")
    elif how == "altered byte, same size":
        before = target.stat()
        target.write_text("0123456780")
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif how == "truncated metadata":
        meta.write_text(meta.read_text()[:40])
    elif how == "metadata of another format":
        meta.write_text(meta.read_text().replace('"format_version": 1', '"format_version": 99'))
    elif how == "metadata that is no object":
        meta.write_text("[]")


@pytest.mark.parametrize(
    "how",
    [
        "data without metadata",
        "metadata without data",
        "truncated",
        "altered byte, same size",
        "truncated metadata",
        "metadata of another format",
        "metadata that is no object",
    ],
)
def test_damaged_file_is_incomplete(table, how):
    assert is_complete(table)
    damage_file(table, how)
    assert not is_complete(table)
    with pytest.raises(IncompleteArtefact, match="kedro run"):
        require_complete(table)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda model: (model / "_artefact.json").unlink(), None),
        (lambda model: (model / "inner" / "weights").unlink(), "inner/weights"),
        (lambda model: (model / "inner" / "weights").write_text("01234"), "inner/weights"),
        (lambda model: (model / "inner" / "weights").write_text("0123456780"), "inner/weights"),
        (lambda model: (model / "inner" / "extra").write_text("x"), "inner/extra"),
        (lambda model: (model / "link").symlink_to("/"), "link"),
        (lambda model: (model / "_artefact.json").write_text("{"), "_artefact.json"),
    ],
    ids=["no metadata", "missing file", "truncated", "altered byte", "extra file", "link", "broken metadata"],
)
def test_damaged_directory_is_incomplete_and_the_file_is_named(model, how, named):
    assert is_complete(model)
    how(model)
    assert not is_complete(model)
    assert altered_files(model) == ([named] if named else [])
    with pytest.raises(IncompleteArtefact, match=named):
        require_complete(model)


def test_file_managers_litter_is_no_alteration(model):
    (model / ".DS_Store").write_text("x")
    assert is_complete(model)


def test_without_verification_only_names_and_sizes_count(table):
    table.write_text("9876543210")
    assert is_complete(table, verify=False) and not is_complete(table)


def test_unchanged_file_is_read_once_per_process(table, monkeypatch):
    past = table.stat().st_mtime_ns - 10**9
    os.utime(table, ns=(past, past))
    assert is_complete(table)
    import hashlib

    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert is_complete(table)


def test_nothing_is_known_of_a_folder_that_was_never_published(tmp_path):
    (tmp_path / "a").write_text("x")
    assert altered_files(tmp_path) == [] and read_metadata(tmp_path) is None and not is_complete(tmp_path)


def test_content_hash_is_that_of_names_and_contents_and_of_nothing_else(tmp_path):
    def folder(name: str, **files: str) -> Path:
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / name

    base = content_hash(folder("base", a="1", b="2"))
    assert content_hash(folder("same", b="2", a="1")) == base
    assert content_hash(folder("renamed", a="1", c="2")) != base
    assert content_hash(folder("swapped", a="2", b="1")) != base
    publish_directory(tmp_path / "ours", lambda path: [(path / n).write_text(t) for n, t in (("a", "1"), ("b", "2"))])
    assert content_hash(tmp_path / "ours") == base


def test_content_hash_follows_links_of_the_user_and_survives_a_circle(tmp_path):
    real, source = tmp_path / "real", tmp_path / "source"
    real.mkdir()
    source.mkdir()
    (real / "a.txt").write_text("1")
    (source / "docs").symlink_to(real)
    (source / "circle").symlink_to(source)
    before = content_hash(source)
    (real / "a.txt").write_text("22")
    assert content_hash(source) != before


def test_content_hash_of_nothing_and_of_an_altered_artefact_is_an_error(tmp_path, table):
    with pytest.raises(FileNotFoundError, match="Nothing to hash"):
        content_hash(tmp_path / "missing")
    table.write_text("other")
    with pytest.raises(IncompleteArtefact, match="altered"):
        content_hash(table)
