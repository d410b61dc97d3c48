"""What a run leaves with MLflow, where someone wants that: off unless RAGSMITH_MLFLOW is set."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SWITCH = "RAGSMITH_MLFLOW"
# As the distribution calls itself, which Kedro compares letter by letter: both ways of writing it are about.
PLUGIN = ("kedro-mlflow", "kedro_mlflow")
_OFF = frozenset({"", "0", "false", "no", "off"})
_FOREIGN = re.compile(r"[^A-Za-z0-9_\-. /]")


def tracking_wanted() -> bool:
    """Whether RAGSMITH_MLFLOW is set, to something other than 0, false, no or off."""
    return os.environ.get(SWITCH, "").strip().lower() not in _OFF


def disabled_plugins() -> tuple[str, ...]:
    """Plugins whose hooks Kedro shall leave out.

    kedro-mlflow is active as soon as it is installed: it opens its store whenever a context is made, in `kedro ask` as
    in `kedro run`, and logs every run.
    """
    return () if tracking_wanted() else PLUGIN


def missing_extra() -> str:
    """What to do where MLflow is wanted and not installed; empty where nothing is to be done."""
    if not tracking_wanted() or find_spec("kedro_mlflow") is not None:
        return ""
    return f"{SWITCH} is set, and kedro-mlflow is not installed. Run: pip install 'ragsmith[mlflow]', or unset it."


def tracked_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every mean of metrics.json, by its path, in letters that MLflow takes.

    >>> tracked_metrics({"retrieval": {"tuned": {"ndcg@10": {"mean": 0.5, "ci95": [0.4, 0.6]}}}})
    {'retrieval/tuned/ndcg_10': 0.5}

    Args:
        metrics: the content of metrics.json. What has no `mean` is not among them: it is in the file, which is logged.
    """
    return dict(_means(metrics, ""))


def log_outputs(metrics: Mapping[str, Any], files: Iterable[Path]) -> str | None:
    """Log the means and the files in the MLflow run that kedro-mlflow has opened.

    Args:
        metrics: the content of metrics.json.
        files: metrics.json and the report, as far as they are there.
    Returns:
        the id of the run; None where there is none, because mlflow.yml leaves this pipeline out.
    """
    import mlflow

    run = mlflow.active_run()
    if run is None:  # logging would open a run of its own that nobody asked for
        return None
    mlflow.log_metrics(tracked_metrics(metrics))
    for path in files:
        if path.is_file():
            mlflow.log_artifact(str(path))
    return str(run.info.run_id)


def _means(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        name = above + _FOREIGN.sub("_", str(key))
        if not isinstance(value, Mapping):
            continue
        mean = value.get("mean")
        if isinstance(mean, int | float) and not isinstance(mean, bool):
            yield name, float(mean)
        else:
            yield from _means(value, f"{name}/")
