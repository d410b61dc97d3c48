"""The embedded sample corpus: the library reference and language topics of the running interpreter."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ragsmith.collect.documents import Document

SCRIPT = Path(__file__).with_name("_interpreter.py")
TIMEOUT_SECONDS = 120


def sample_documents(modules: list[str] | None = None) -> list[Document]:
    """Real documents that need no download: one per standard module, builtin type and language topic.

    The modules are imported in a child process with an empty environment and home, because importing them prints,
    warns and may open a window; those known to do worse are never imported (see `_interpreter.py`).

    Args:
        modules: keep only these documents, by uri without its scheme (`shutil`, `topic:with`); None keeps all.
    Returns:
        Markdown documents: the module's own summary, then a second-level heading with the signature of each object,
        followed by its docstring.
    Raises:
        RuntimeError: the child process failed or its output is cut short.
        ValueError: a name in `modules` is not in the corpus.
    """
    with tempfile.TemporaryDirectory(prefix="ragsmith-sample-") as folder:
        target = Path(folder) / "reference.jsonl"
        # An empty home and no DISPLAY: whatever a module does when imported, it does it to nobody.
        environment = {
            "HOME": folder,
            "PATH": "/usr/bin:/bin",
            "BROWSER": "true",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "80",
        }
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-W", "ignore", "-X", "utf8", str(SCRIPT), str(target)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        # A whole output ends in its count.
        lines = target.read_text("utf-8").splitlines() if child.returncode == 0 and target.exists() else []
    rows = [json.loads(line) for line in lines] if lines and lines[-1].startswith('{"written"') else []
    if not rows or rows[-1].get("written") != len(rows) - 1:
        raise RuntimeError(
            f"Reading the interpreter's reference failed (exit {child.returncode}): {child.stderr[-500:]}"
        )
    documents = [as_document(row) for row in rows[:-1]]
    if modules is None:
        return documents
    wanted = dict.fromkeys(modules)
    known = {document.uri.removeprefix("python:"): document for document in documents}
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"Not in this interpreter's sample corpus: {', '.join(missing)}.")
    return [known[name] for name in wanted]


def as_document(row: dict[str, object]) -> Document:
    """One line of the child's output as a Markdown document."""
    sections = row.get("sections")
    if isinstance(sections, list):
        parts = [f"# {row['title']}", str(row["summary"])]
        for section in sections:
            parts += [f"## {section['heading']}", section["body"]]
        text = "\n\n".join(part for part in parts if part)
    else:
        text = str(row["markdown"])
    return Document(
        source="sample",
        uri=f"python:{row['name']}",
        title=str(row["title"]),
        text=text + "\n",
        markup="markdown",
        licence="PSF-2.0",
    )
