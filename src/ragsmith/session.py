"""The session of a run: everything a person may have got wrong is said before any step runs, and all at once."""

import inspect
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.runner import SequentialRunner
from kedro.validation import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

from ragsmith.faults import (
    UserError,
    dataset_fault,
    inputs_of,
    model_faults,
    nearest,
    parameter_faults,
    read_configuration,
    refuse,
    requested,
    said_on_purpose,
    unfit_models,
    unknown_globals,
    unknown_parameters,
    unknown_pipelines,
)
from ragsmith.runner import RecognisingRunner
from ragsmith.store import LockHeld, exclusive, out_of_space

logger = logging.getLogger(__name__)

LOCK_FILE = ".ragsmith.lock"


class RagsmithSession(KedroSession):
    """Kedro's session that recognises finished steps, checks before it runs, and runs once at a time per data folder.

    Example of `settings.py`:
    ```python
    from ragsmith.session import RagsmithSession

    SESSION_CLASS = RagsmithSession
    ```
    """

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run as `KedroSession.run` does, which see for the arguments.

        Raises:
            UserError: the configuration, an input, or another run on the same data stands in the way; the disk is
                full; or a step found something wrong with what it was given.
        """
        call = inspect.signature(KedroSession.run).bind(self, *args, **kwargs)
        call.arguments["runner"] = _recognising(call.arguments.get("runner"))
        loader = self._get_config_loader()
        raw, catalog = read_configuration(loader, "parameters"), read_configuration(loader, "catalog")
        faults = unknown_pipelines(call.arguments) + unknown_globals(loader) + unknown_parameters(loader, raw)
        names = [name for name in requested(call.arguments) or pipelines if name in pipelines]
        if faults:  # without any, Kedro finds what is wrong with values
            faults += parameter_faults(loader, raw, names) + model_faults(loader, catalog, names)
            faults += unfit_models(loader, raw, catalog, inputs_of(names))
        refuse(faults, "in the configuration")
        self._hook_manager.register(_Checks(loader))
        data = self._data_root(loader)
        try:
            with (
                exclusive(data / LOCK_FILE),
                _quiet("kedro.validation.parameter_validator"),
                _quiet("kedro.pipeline.node"),
            ):
                return KedroSession.run(*call.args, **call.kwargs)
        except LockHeld as error:
            raise UserError(str(error)) from error
        except ParameterValidationError as error:
            faults = parameter_faults(loader, raw, names) or [str(error)]
            faults += model_faults(loader, catalog, names) + unfit_models(loader, raw, catalog, inputs_of(names))
            refuse(faults, "in the parameters", error)
            raise
        except Exception as error:
            if out_of_space(error):
                raise UserError(
                    f"There was no room to write ({error}). {data} is on a disk with "
                    f"{shutil.disk_usage(data).free / 2**20:,.0f} MiB free; 'ulimit -f' shows the limit of a file's "
                    "size. What was finished before is whole: make room, give the same command again, and it goes on."
                ) from error
            if not said_on_purpose(error):
                raise
            logger.debug("what led to the error", exc_info=error)
            raise UserError("\n".join([str(error), *getattr(error, "__notes__", [])])) from error

    def _get_config_loader(self) -> Any:
        self._check_environment()
        try:
            return super()._get_config_loader()
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"conf/ cannot be read: {error}") from error

    def _check_environment(self) -> None:
        """Make the default environment's folder, and refuse another that does not exist."""
        from kedro.framework.project import settings

        conf = Path(self._conf_source)
        default = settings.CONFIG_LOADER_ARGS.get("default_run_env", "local")
        name = self.store.get("env") or default
        if not conf.is_dir() or (conf / name).is_dir():  # an archive or a remote place: Kedro looks itself
            return
        if name == default:
            # Git keeps no empty folder, and Kedro refuses to run without this one.
            try:
                (conf / name).mkdir()
            except OSError as error:
                raise UserError(f"Kedro needs the folder {conf / name}, which may be empty: {error}.") from error
            return
        there = sorted(path.name for path in conf.iterdir() if path.is_dir() and not path.name.startswith("."))
        raise UserError(
            f"There is no environment {name!r}: {conf / name} does not exist.{nearest(name, there)} "
            f"Environments: {', '.join(there)}."
        )

    def _data_root(self, loader: Any) -> Path:
        paths = loader["globals"].get("paths") or {}
        data = str(paths.get("data", "data"))
        if "://" in data:
            raise UserError(f"paths.data is {data!r}: remote storage comes with the cluster back end.")
        return self._project_path / data


class _Checks:
    """Ask each dataset at the edge of a run whether it is ready, before any step runs."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        faults = []
        edges = [(name, "check") for name in pipeline.inputs()]
        edges += [(name, "check_target") for name in pipeline.all_outputs()]
        for name, question in sorted(edges):
            try:
                ask = getattr(catalog.get(name), question, None)
                if ask is not None:
                    ask()
            except DatasetError as error:
                faults.append(dataset_fault(self.loader, name, error))
        raw, entries = read_configuration(self.loader, "parameters"), read_configuration(self.loader, "catalog")
        faults += unfit_models(self.loader, raw, entries, pipeline.inputs())
        refuse(faults, "in what the run reads and writes")


def _recognising(runner: Any) -> Any:
    """Our runner in the place of Kedro's default; one that was asked for stays."""
    plain = runner is None or (type(runner) is SequentialRunner and not runner._is_async)
    return RecognisingRunner() if plain else runner


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger silent in the body: Kedro logs each fault that we are about to say better."""
    silenced = logging.getLogger(name)
    before, silenced.disabled = silenced.disabled, True
    try:
        yield
    finally:
        silenced.disabled = before
