"""Artefacts that are whole or not there: publication, completeness, content hashes and provenance."""

from ragsmith.store.fingerprint import hash_code, hash_json
from ragsmith.store.lock import LockHeld, exclusive
from ragsmith.store.metadata import (
    IncompleteArtefact,
    Metadata,
    altered_files,
    content_hash,
    is_complete,
    read_metadata,
    require_complete,
)
from ragsmith.store.provenance import Provenance, current_provenance, recording
from ragsmith.store.publish import check_target, publish_directory, publish_file, recover
from ragsmith.store.space import out_of_space

__all__ = [
    "IncompleteArtefact",
    "LockHeld",
    "Metadata",
    "Provenance",
    "altered_files",
    "check_target",
    "content_hash",
    "current_provenance",
    "exclusive",
    "hash_code",
    "hash_json",
    "is_complete",
    "out_of_space",
    "publish_directory",
    "publish_file",
    "read_metadata",
    "recording",
    "recover",
    "require_complete",
]
