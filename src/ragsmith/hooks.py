"""What the project adds to a run: the check of the back end before it, the table of results and a version after it."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from ragsmith.compute.ray_cluster import check_cluster
from ragsmith.pipelines.params import ComputeParams
from ragsmith.tracking import log_outputs, missing_extra

if TYPE_CHECKING:
    from ragsmith.pipelines.rag_training.params import RagTrainingParams
    from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

logger = logging.getLogger(__name__)

Typed = TypeVar("Typed")


class ProjectHooks:
    """Hooks of every run."""

    def __init__(self) -> None:
        self._loader: Any = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep what reads the configuration."""
        self._loader = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse what is not there (device, cluster, peft, earlier version) or cannot be on several processes."""
        from ragsmith.faults import UserError

        if {"params:evaluation", "history"} <= pipeline.inputs() and (fault := missing_version(catalog)):
            raise UserError(fault)
        if "params:compute" not in pipeline.inputs():
            return
        compute = compute_of(catalog)
        if fault := missing_adapters(catalog, pipeline):
            raise UserError(fault)
        if "params:rag_training" in pipeline.inputs() and training_of(catalog).wants_ray():
            from ragsmith.read.workers import check_worker

            find_cluster(self._loader, "rag_training", partial(check_worker, "ray"))
        if "params:retriever_training" in pipeline.inputs():
            try:
                retriever_training_of(catalog).on_ranks(compute.ranks, compute.backend)
            except ValueError as error:
                raise UserError(str(error)) from error
            if compute.backend == "ray":
                instead = "set compute.backend to local (globals.yml of the environment)"
                check = partial(check_cluster, "compute.backend is ray", instead)
                find_cluster(self._loader, "retriever_training", check)
        if compute.device == "cuda":  # the others are always there, and torch is slow to import
            try:
                compute.machine()
            except ValueError as error:
                raise UserError(str(error)) from error

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Show what came out, where it lies and what to try next, when the run went as far as metrics."""
        if "metrics" in pipeline.all_outputs() and catalog.exists("metrics"):
            from ragsmith.summary import print_summary

            print_summary(catalog.load("metrics"), artefact_paths(catalog, pipeline))
            if "per_query" in pipeline.all_outputs():
                keep_outputs(catalog)


class TrackingHooks:
    """Hooks of runs that MLflow shall know of; see `ragsmith.tracking`."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Say what is missing before anything is done."""
        from ragsmith.faults import UserError

        if fault := missing_extra():
            raise UserError(fault)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Log the means, metrics.json and the report, before kedro-mlflow's own hook ends the MLflow run."""
        if "metrics" not in pipeline.all_outputs() or not catalog.exists("metrics"):
            return
        paths = artefact_paths(catalog, pipeline)
        try:
            run = log_outputs(
                catalog.load("metrics"), [paths[name] for name in ("metrics", "report") if name in paths]
            )
        except Exception as error:  # whatever it was, the run itself went well
            logger.warning("MLflow did not take the results: %s", error)
            return
        if run:
            logger.info("logged in MLflow as run %s", run)


def typed(catalog: Any, name: str, kind: type[Typed]) -> Typed:
    """What the parameters say of a step: Kedro has made the model of it, or has not yet."""
    found = catalog.load(f"params:{name}")
    return found if isinstance(found, kind) else kind(**found)


def compute_of(catalog: Any) -> ComputeParams:
    """Where the parameters want the numbers computed."""
    return typed(catalog, "compute", ComputeParams)


def training_of(catalog: Any) -> "RagTrainingParams":
    """What the parameters say of rag_training."""
    from ragsmith.pipelines.rag_training.params import RagTrainingParams

    return typed(catalog, "rag_training", RagTrainingParams)


def retriever_training_of(catalog: Any) -> "RetrieverTrainingParams":
    """What the parameters say of retriever_training."""
    from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

    return typed(catalog, "retriever_training", RetrieverTrainingParams)


def missing_adapters(catalog: Any, pipeline: Any) -> str:
    """What to do where adapters are to be trained and peft is not installed; empty where nothing is to be done."""
    from ragsmith.learn.lora import check_adapters

    for name, training in (("retriever_training", retriever_training_of), ("rag_training", training_of)):
        if f"params:{name}" in pipeline.inputs():
            try:
                check_adapters(training(catalog).lora.rank, f"{name}.lora.rank")
            except ModuleNotFoundError as error:
                return str(error)
    return ""


def find_cluster(loader: Any, step: str, check: Callable[[], None]) -> None:
    """Look for the Ray cluster that the environment's ray.yml names, unless RAY_ADDRESS does.

    Args:
        loader: of the configuration; None has no ray.yml.
        step: which wants it, for the message.
        check: looks for it; see `check_cluster`.
    Raises:
        UserError: Ray is not installed, or no cluster answers there.
    """
    from ragsmith.faults import UserError

    try:
        settings = loader["ray"] if loader is not None else {}
    except MissingConfigException:  # most environments have no such file
        settings = {}
    if address := (settings.get("init") or {}).get("address"):
        os.environ.setdefault("RAY_ADDRESS", str(address))  # where Ray itself looks, in whatever process
    try:
        check()
    except (ModuleNotFoundError, ConnectionError) as error:
        raise UserError(f"{step}: {error}") from error


def missing_version(catalog: Any) -> str:
    """Why the outputs cannot be compared with the version that evaluation.baseline names; empty where they can."""
    from ragsmith.evaluate.history import find_version
    from ragsmith.pipelines.evaluation.params import SYSTEMS

    found = catalog.load("params:evaluation")
    baseline = found["baseline"] if isinstance(found, dict) else found.baseline
    if baseline in SYSTEMS:
        return ""
    try:
        find_version(baseline, path_of(catalog, "history"))
    except ValueError as error:
        return f"evaluation.baseline: {error}"
    return ""


def artefact_paths(catalog: Any, pipeline: Any) -> dict[str, Path]:
    """Where the report, the metrics and the bundle lie, as far as this run made them."""
    wanted = ("report", "metrics", "bundle")
    return {name: path_of(catalog, name) for name in wanted if name in pipeline.all_outputs()}


def path_of(catalog: Any, name: str) -> Path:
    """Where an artefact lies."""
    return Path(str(catalog.get(name)._describe()["filepath"]))


def keep_outputs(catalog: Any) -> None:
    """Keep metrics and per-query table as a version for `kedro compare`, when they are other than those before."""
    from ragsmith.evaluate.history import keep_version, version_names

    try:
        history = path_of(catalog, "history")
        kept = keep_version(path_of(catalog, "metrics").parent, history)
        many = len(version_names(history)) > 1
    except Exception as error:  # whatever it was, the run itself went well
        logger.warning("These outputs were not kept as a version for `kedro compare`: %s", error)
        return
    if kept:
        hint = "; `kedro compare previous latest` says what changed" if many else ""
        logger.info("kept as version %s%s", kept, hint)
