"""Replies of a language model, kept in a folder by what was asked."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragsmith.llm.messages import Reply
from ragsmith.store import hash_json, is_complete, publish_file

logger = logging.getLogger(__name__)
FORMAT = 1


class ReplyCache:
    """One small JSON file per request, named after the hash of all that decides the reply.

    A file that was cut short or altered counts as missing and is asked for again. The requests are readable in it:
    whoever may not read the questions may not read the cache.

    Args:
        folder: where the files are; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, request: Mapping[str, Any]) -> Reply | None:
        """The reply that was given to this request, or None."""
        path = self._path(request)
        if path is None or not is_complete(path):
            return None
        return Reply(**json.loads(path.read_text("utf-8"))["reply"])

    def put(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Keep a reply, whole or not at all."""
        path = self._path(request)
        if path is None:
            return
        values = {"request": request, "reply": {"text": reply.text, "finish_reason": reply.finish_reason}}

        def write(staged: Path) -> None:
            staged.write_text(json.dumps(values, indent=1, ensure_ascii=False), "utf-8")

        try:
            publish_file(path, write)
        except FileExistsError as error:  # another process is about to finish the same reply; or it is no file of ours
            logger.warning("a reply was not kept: %s", error)

    def _path(self, request: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        key = hash_json({"format": FORMAT, **request})
        # In 256 folders: a publication looks through the whole folder that it is in.
        return self.folder / key[:2] / f"{key}.json"
