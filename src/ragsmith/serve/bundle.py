"""The bundle: the models, index and passages that were evaluated, in one folder with a manifest of their sums."""

import json
import shutil
from pathlib import Path
from typing import Any

from ragsmith.retrieve.models import file_sha256

MANIFEST = "manifest.json"
FORMAT = 1


class BundleError(ValueError):
    """A folder that is no whole bundle."""


def build_bundle(
    retriever: Path,
    index: Path,
    reader: Path,
    passages: Path,
    settings: dict[str, Any],
    metrics: dict[str, Any],
    target: Path,
) -> Path:
    """Copy the parts of a bundle and write its manifest last.

    Args:
        retriever, index, reader: finished folders.
        passages: Parquet of the passages.
        settings: `mode` of search and number of `passages` read.
        metrics: what these very parts scored.
        target: an empty or absent folder.
    Returns:
        `target`.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, source in (("retriever", retriever), ("index", index), ("reader", reader)):
        # Metadata of the artefact that was copied is not metadata of its copy.
        shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("_artefact.json"))
    shutil.copyfile(passages, target / "passages.parquet")
    files = {
        path.relative_to(target).as_posix(): file_sha256(path) for path in sorted(target.rglob("*")) if path.is_file()
    }
    manifest = {"format": FORMAT, "settings": settings, "metrics": metrics, "files": files}
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True), "utf-8")
    return target


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of a whole bundle, every file checked against its sum.

    Raises:
        BundleError: no manifest, another format, or a file that is missing, altered or too many; it is named.
    """
    path = bundle / MANIFEST
    if not path.is_file():
        raise BundleError(f"No bundle at {bundle}: {MANIFEST} is not there. Run: kedro run")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        files = manifest["files"]
        known = manifest["format"] == FORMAT
        if known and not (isinstance(files, dict) and {"mode", "passages"} <= set(manifest["settings"])):
            raise TypeError("files or settings are not whole")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error}). Run: kedro run") from error
    if not known:
        raise BundleError(f"{path} is of format {manifest['format']!r}, this version reads {FORMAT}. Run: kedro run")
    present = {
        found.relative_to(bundle).as_posix()
        for found in bundle.rglob("*")
        if found.is_file() and found.relative_to(bundle).as_posix() not in {MANIFEST, "_artefact.json"}
    }
    if missing := sorted(set(files) - present):
        raise BundleError(f"{bundle / missing[0]} is missing. Run: kedro run")
    if strange := sorted(present - set(files)):
        raise BundleError(f"{bundle / strange[0]} is not part of the bundle. Remove it, or run: kedro run")
    for name, expected in files.items():
        if file_sha256(bundle / name) != expected:
            raise BundleError(f"{bundle / name} was altered or cut short: its sha256 is not that of the manifest.")
    return manifest  # type: ignore[no-any-return]
