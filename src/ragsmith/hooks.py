"""What the project adds to a run: the check of the back end before it, and the table of results after it."""

import json
import logging
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from ragsmith.pipelines.params import ComputeParams

logger = logging.getLogger(__name__)


class ProjectHooks:
    """Hooks of every run."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse a back end or a device that is not there, before anything is done."""
        from ragsmith.session import UserError

        if "params:compute" not in pipeline.inputs():
            return
        compute = compute_of(catalog)
        if compute.backend == "ray":
            raise UserError(
                "compute.backend is 'ray', which is not there yet: use --env base or --env gpu, "
                "or set compute.backend to 'local' in conf/cluster/globals.yml."
            )
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


def compute_of(catalog: Any) -> ComputeParams:
    """Where the parameters want the numbers computed."""
    compute = catalog.load("params:compute")
    return compute if isinstance(compute, ComputeParams) else ComputeParams(**compute)


def artefact_paths(catalog: Any, pipeline: Any) -> dict[str, Path]:
    """Where the report, the metrics and the bundle lie, as far as this run made them."""
    wanted = ("report", "metrics", "bundle")
    made = [name for name in wanted if name in pipeline.all_outputs()]
    return {name: Path(json.loads(json.dumps(catalog.get(name)._describe()))["filepath"]) for name in made}
