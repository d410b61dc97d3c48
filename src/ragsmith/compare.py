"""`kedro compare`: what differs between two versions of an evaluation, on the terminal, as JSON or as a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ragsmith.ask import printable

WORSE = 2  # exit status
_MOST = 100  # characters of a text or value in a line


@dataclass(frozen=True)
class CompareSettings:
    """What `kedro compare` was asked for, beside the two versions.

    Attributes:
        metrics: to compare; none takes the usual ones.
        fail_if_worse: metrics whose significant loss makes the exit status 2.
        as_json: print one JSON object.
        html: file to write a page to.
        limit: questions and changed settings to show of each kind.
        samples, seed: of bootstrap and permutation test.
    """

    metrics: tuple[str, ...] = ()
    fail_if_worse: tuple[str, ...] = ()
    as_json: bool = False
    html: Path | None = None
    limit: int = 10
    samples: int = 10_000
    seed: int = 0


def print_comparison(a: str, b: str, history: Path | None, settings: CompareSettings) -> int:
    """Compare two versions and print what differs.

    Args:
        a, b: names or paths, as `find_version` takes them; b is the later one.
        history: folder of the versions, None outside of a project.
        settings: see there.
    Returns:
        the exit status: 2 when b is worse in a metric of `fail_if_worse`, otherwise 0.
    Raises:
        click.ClickException: a version or a metric that there is not, files that cannot be used, or no place for the
            page; the message says why.
    """
    from ragsmith.evaluate.compare_versions import compare_versions, significantly_worse
    from ragsmith.evaluate.comparison_page import render_comparison
    from ragsmith.evaluate.history import find_version
    from ragsmith.evaluate.saved_version import read_version
    from ragsmith.store import publish_file

    try:
        folders = [find_version(wanted, history) for wanted in (a, b)]
        first, second = (read_version(folder, shown_name(folder)) for folder in folders)
        result = compare_versions(first, second, settings.samples, settings.seed, settings.metrics)
        worse = significantly_worse(first, second, settings.fail_if_worse, settings.samples, settings.seed)
        if settings.html is not None:
            page = render_comparison(result).encode("utf-8", "replace")  # JSON can name half of a character
            publish_file(settings.html, lambda path: write_bytes(path, page))
    except (ValueError, OSError) as error:
        raise click.ClickException(printable(str(error))) from error
    if settings.as_json:
        click.echo(json.dumps({**result, "worse": worse}, indent=2))
    else:
        print_tables(result, settings.limit)
        for row in worse:
            click.echo(f"worse: {_name(row)} {_difference(row)}, Holm-corrected p {row['p_holm']:.4f}", err=True)
    return WORSE if worse else 0


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    path.write_bytes(content)


def print_versions(history: Path | None, as_json: bool) -> None:
    """List the versions that there are, the newest first, with their headline figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ragsmith.evaluate.history import version_names

    names = list(reversed(version_names(history)))
    rows = [{"version": name, **headline_figures(history / name)} for name in names if history is not None]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No version is kept yet: a run of the evaluation pipeline keeps one.")
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title="Versions, the newest first", title_justify="left")
    for column in columns:
        table.add_column(Text(_line(column)))
    for row in rows:
        table.add_row(*(Text(_figure(row.get(column, ""))) for column in columns))
    console = Console()
    console.print(table)
    console.print("Compare two of them: kedro compare previous latest", markup=False)


def headline_figures(folder: Path) -> dict[str, Any]:
    """A version's figures for the list: questions, means of the answers and of each system; or why there are none."""
    from ragsmith.evaluate.saved_version import read_metrics

    try:
        metrics = read_metrics(folder)
        figures: dict[str, Any] = {"questions": metrics["queries"]["test"]}
        figures |= {name: metrics["answers"][name]["mean"] for name in ("em", "f1") if name in metrics["answers"]}
        for system, scores in metrics["retrieval"].items():
            figures |= {f"ndcg@10 {system}": scores["ndcg@10"]["mean"]} if "ndcg@10" in scores else {}
        return {**figures, "revision": str(metrics["run"].get("revision", ""))}
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        return {"fault": f"cannot be read: {error}"}


def print_tables(result: Mapping[str, Any], limit: int) -> None:
    """Print differences with intervals, questions won and lost, and what differs between the runs.

    Args:
        result: from `compare_versions`. Its texts are a stranger's: neither markup nor control characters of theirs
            reach the terminal.
        limit: questions and settings to show of each kind.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=Text(_line(f"A: {result['a']}\nB: {result['b']}", lines=True)), title_justify="left")
    for column in ("metric", "A", "B", "B − A [95 % interval]", "p (Holm)", ""):
        table.add_column(column, justify="left" if column in ("metric", "") else "right")
    for row in result["comparisons"]:
        cells = (
            f"{row['mean_a']:.3f}",
            f"{row['mean_b']:.3f}",
            _difference(row),
            f"{row['p_holm']:.4f}",
            verdict(row),
        )
        table.add_row(Text(_name(row)), *map(Text, cells))
    console.print(table)
    for line in [
        *_counted(result["queries"]),
        *_questions(result["outcomes"], limit),
        *_settings(result["run"], limit),
    ]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a difference is more than chance."""
    from ragsmith.evaluate.compare_versions import ALPHA

    if row["p_holm"] >= ALPHA:
        return "no difference shown"
    return "B is better" if row["difference"] > 0 else "B is worse"


def shown_name(folder: Path) -> str:
    """What a version is called in tables: its name in the history, or its path as seen from here."""
    from ragsmith.evaluate.history import HISTORY
    from ragsmith.summary import relative

    return folder.name if folder.parent.name == HISTORY else relative(folder.resolve())


def _counted(queries: Mapping[str, int]) -> list[str]:
    left_out = {
        "only in A": queries["only_a"],
        "only in B": queries["only_b"],
        "with another text": queries["changed_text"],
    }
    parts = [f"{count:,} {reason}" for reason, count in left_out.items() if count]
    return [f"{queries['both']:,} questions compared" + (f"; left out: {', '.join(parts)}" if parts else "")]


def _questions(outcomes: Mapping[str, Any], limit: int) -> list[str]:
    counts = ", ".join(f"{outcomes[name]['queries']:,} {name}" for name in ("won", "lost", "tied"))
    lines = [f"answers by EM, then F1: {counts}"]
    for name in ("won", "lost"):
        rows, total = outcomes[name]["rows"][:limit], outcomes[name]["queries"]
        if rows:
            lines.append(f"\n{name} by B" + (f" ({len(rows)} of {total:,})" if total > len(rows) else ""))
        for row in rows:
            lines.append(f"  {_line(row['query'])}  [{_line(row['query_id'])}]")
            lines += [
                f"    {side.upper()}: {_line(row[f'answer_{side}']) or '–'}  "
                f"(EM {row[f'em_{side}']:.0f}, F1 {row[f'f1_{side}']:.2f})"
                for side in ("a", "b")
            ]
    return lines


def _settings(changes: Sequence[Mapping[str, Any]], limit: int) -> list[str]:
    if not changes:
        return ["\nThe run cards are the same."]
    lines = ["\ndiffers between the runs"]
    lines += [f"  {_line(row['key'])}: {_value(row['a'])} → {_value(row['b'])}" for row in changes[:limit]]
    return lines + ([f"  … and {len(changes) - limit} more: --limit, --json"] if len(changes) > limit else [])


def _name(row: Mapping[str, Any]) -> str:
    from ragsmith.evaluate.headline import metric_label

    return _line(f"{metric_label(row['metric'])} {row['system']}".strip())


def _difference(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _value(value: Any) -> str:
    return "–" if value is None else _line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else _line(str(value))


def _line(text: str, lines: bool = False) -> str:
    """A stranger's text, fit for one line of a terminal."""
    cut = text if len(text) <= _MOST or lines else text[: _MOST - 1] + "…"
    shown = printable(cut)
    return shown if lines else " ".join(shown.split())
