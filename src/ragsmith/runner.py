"""A runner that recognises what has not changed: repeat a command, and only what is new or missing is done."""

import functools
import inspect
import logging
import platform
import re
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from kedro.io.core import is_parameter
from kedro.runner import SequentialRunner
from kedro.runner.task import Task

from ragsmith.compute.memory import peak_memory
from ragsmith.pipelines.params import plain
from ragsmith.store import Provenance, hash_code, hash_json, recording

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node
    from pluggy import PluginManager

logger = logging.getLogger(__name__)

# Library packages whose code a pipeline's steps may use: data flows one way, so each list holds the one before.
_COLLECT = ("collect",)
_GENERATE = (*_COLLECT, "synthesize", "retrieve", "llm")
_LEARN = (*_GENERATE, "learn")
_READ = (*_LEARN, "read")
_EVALUATE = (*_READ, "evaluate")
_SERVE = (*_EVALUATE, "serve")
PIPELINE_PACKAGES = {
    "data_collection": _COLLECT,
    "query_generation": _GENERATE,
    "negative_mining": _GENERATE,
    "retriever_training": _LEARN,
    "rag_training": _READ,
    "evaluation": _EVALUATE,
    "serving": _SERVE,
}
ALWAYS = ("compute", "store", "datasets")
# Code, and the data files that lie beside it: prompts, templates, word lists, the pages of the UI.
CODE_SUFFIXES = frozenset({".py", ".jsonl", ".json", ".j2", ".txt", ".yml", ".html", ".css", ".js"})
_PIPELINE_MODULE = re.compile(r"(?P<root>.+?)\.pipelines\.(?P<pipeline>[^.]+)")


class RecognisingRunner(SequentialRunner):
    """Run steps in order, but pass over each whose outputs are there, whole, and made from the same things.

    "The same" is the step's fingerprint: its name, parameters, code, the content of its inputs and the Python version.
    It is kept in the metadata of each output. A step always runs when it has no output, when an output is not an
    artefact of ours, or when an input's content is not known (such as a table that lives in memory only).
    """

    def __init__(self, is_async: bool = False) -> None:
        """Make a runner.

        Args:
            is_async: must be False; Kedro passes it.
        Raises:
            ValueError: `is_async` is True: saving in other threads would lose what an artefact was made from.
        """
        if is_async:
            raise ValueError("RecognisingRunner saves in the main thread only. Leave out is_async.")
        super().__init__(is_async=False)

    def __str__(self) -> str:
        # kedro-viz records a run's status only if the runner's text holds the name that the plain runner has.
        return f"<{__name__}.RecognisingRunner, a kedro.runner.sequential_runner.SequentialRunner object>"

    def _run(
        self,
        pipeline: "Pipeline",
        catalog: Any,
        hook_manager: "PluginManager | None" = None,
        run_id: str | None = None,
    ) -> None:
        nodes = pipeline.nodes
        load_counts = Counter(chain.from_iterable(node.inputs for node in nodes))
        # Before the first step: who edits a file during a long run has not run that edit.
        code = {node.name: code_hash(node.func) for node in nodes}
        done: list[Node] = []
        executed = 0
        for position, node in enumerate(nodes, 1):
            provenance = provenance_of(node, catalog, code[node.name])
            if provenance is not None and is_recognised(node, catalog, provenance.fingerprint):
                logger.info("recognised: %s — nothing changed", node.name)
            else:
                logger.info("node %d/%d %s …", position, len(nodes), node.name)
                begun = perf_counter()
                try:
                    with recording(provenance):
                        Task(node, catalog, is_async=False, hook_manager=hook_manager, run_id=run_id).execute()
                except Exception:
                    logger.error("%s failed after %.1f s", node.name, perf_counter() - begun)
                    if done:
                        self._suggest_resume_scenario(pipeline, done, catalog)
                        logger.warning("Or repeat the same command: what is finished is recognised and not redone.")
                    raise
                executed += 1
                logger.info("%s done in %.1f s", node.name, perf_counter() - begun)
            done.append(node)
            self._release_datasets(node, catalog, load_counts, pipeline)
        memory = peak_memory()
        logger.info(
            "%d steps: %d run, %d recognised%s",
            len(nodes),
            executed,
            len(nodes) - executed,
            "" if memory is None else f"; at most {memory / 2**30:.2f} GiB of memory",
        )


def is_recognised(node: "Node", catalog: Any, fingerprint: str) -> bool:
    """Whether every output of a step is there, whole, and made by work of this fingerprint."""
    outputs = [catalog.get(name) for name in node.outputs]
    return bool(outputs) and all(hasattr(item, "recognises") and item.recognises(fingerprint) for item in outputs)


def provenance_of(node: "Node", catalog: Any, code: str | None) -> Provenance | None:
    """What a step's outputs are about to be made from; None when a part of it cannot be known.

    Nothing is loaded: artefacts carry their hash in their metadata.
    """
    inputs: dict[str, str] = {}
    for name in node.inputs:
        dataset = catalog.get(name)
        if not getattr(dataset, "HAS_CONTENT", True):
            continue
        known = _parameter_hash(name, dataset) if is_parameter(name) else _content_hash(dataset)
        if known is None:
            return None
        inputs[name] = known
    if code is None:
        return None
    parts = {"node": node.name, "inputs": inputs, "code": code, "python": platform.python_version()}
    return Provenance(node.name, hash_json(parts), inputs)


def _parameter_hash(name: str, dataset: Any) -> str | None:
    try:
        found = dataset.load()
        return hash_json(plain(found) if name == "parameters" else found)
    except TypeError as error:
        logger.warning("%s cannot be compared with that of earlier runs: %s", name, error)
        return None


def _content_hash(dataset: Any) -> str | None:
    ask = getattr(dataset, "content_hash", None)
    known: str | None = ask() if ask is not None else None
    return known


def code_hash(function: Any) -> str | None:
    """Hash of the code that a step may reach; None when it cannot be told from files.

    That is the step's own pipeline and the library packages left of it (`PIPELINE_PACKAGES`), in the package that the
    function's module belongs to. Of a function that lies in no `pipelines` package, it is its whole top package.
    """
    function = inspect.unwrap(function)
    # What a partial or a closure holds is no source text.
    if isinstance(function, functools.partial) or getattr(function, "__closure__", None):
        return None
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or getattr(module, "__file__", None) is None:
        return None
    match = _PIPELINE_MODULE.match(module.__name__)
    if match is None:
        top = sys.modules[module.__name__.partition(".")[0]]
        return hash_code([_folder(top) or Path(str(module.__file__))], CODE_SUFFIXES)
    root = _folder(sys.modules[match["root"]])
    if root is None:
        return None
    packages = (*PIPELINE_PACKAGES.get(match["pipeline"], _SERVE), *ALWAYS)
    wanted = [root / name for name in packages] + [root / "pipelines" / match["pipeline"]]
    return hash_code([path for path in wanted if path.is_dir()], CODE_SUFFIXES)


def _folder(module: Any) -> Path | None:
    """The folder of a package; None for a module that is a single file."""
    places = list(getattr(module, "__path__", []))
    return Path(places[0]) if places else None
