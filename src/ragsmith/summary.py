"""The table that a person sees at the end of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLE = "How do I pause my program for a few seconds?"


def print_summary(metrics: Mapping[str, Any], paths: Mapping[str, Path]) -> None:
    """Print retrieval of all systems, the comparisons, the reader, and what to try next.

    Args:
        metrics: the content of metrics.json.
        paths: of `report`, `metrics` and `bundle`, as far as there are any.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    names = list(next(iter(metrics["retrieval"].values())))
    table = Table(title=f"{metrics['queries']['test']} test questions, mean [95 % interval]", title_justify="left")
    table.add_column("system")
    for name in names:
        table.add_column(name)
    for system, scores in metrics["retrieval"].items():
        table.add_row(system, *(interval(scores[name]) for name in names))
    console.print()
    console.print(table)
    for row in metrics["comparisons"]:
        if row["metric"] == "mrr@10" or (row["metric"] == names[0] and "mrr@10" not in names):
            low, high = row["ci95"]
            console.print(
                f"{row['b']} against {row['a']}: {row['metric']} {row['difference']:+.3f} [{low:+.3f}, {high:+.3f}], "
                f"p = {row['p']:.4f} (Holm {row['p_holm']:.4f})",
                markup=False,
            )
    if metrics["answers"]:
        answers = metrics["answers"]
        console.print(f"reader: EM {interval(answers['em'])}, F1 {interval(answers['f1'])}", markup=False)
    console.print()
    for name, path in paths.items():
        console.print(f"{name}: {relative(path)}", markup=False, soft_wrap=True)
    if "bundle" in paths:
        console.print(f'\nTry next:\n  kedro ask "{EXAMPLE}"\n  kedro viz run', markup=False)


def interval(estimate: Mapping[str, Any]) -> str:
    """A mean with its interval, such as `.512 [.470, .553]`."""
    low, high = estimate["ci95"]
    return f"{estimate['mean']:.3f} [{low:.3f}, {high:.3f}]"


def relative(path: Path) -> str:
    """The path as seen from the current folder, when it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
