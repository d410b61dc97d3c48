"""Write an evaluation as one HTML file that a browser opens anywhere, offline, and that runs nothing from the data."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import pandas as pd

from ragsmith.evaluate._checks import require_columns
from ragsmith.evaluate._page import csp_hash, environment
from ragsmith.evaluate.answers import COLUMNS as ANSWER_METRICS
from ragsmith.evaluate.figures import BUCKETS
from ragsmith.evaluate.headline import answers_headline, format_p, metric_label, percent, retrieval_headline
from ragsmith.evaluate.report.detail import pack_within
from ragsmith.evaluate.report.findings import findings, tiles
from ragsmith.evaluate.report.safe_json import safe_json
from ragsmith.evaluate.report.sections import (
    CATEGORIES,
    CONDITIONS,
    calibration_view,
    decomposition_view,
    fact,
    not_measured,
    posterior_view,
    rank_stacks,
    run_facts,
    slices_view,
    sweep_view,
)

# A person can mail and open this: 10,000 queries with their passages.
MOST_BYTES = 15_000_000
# The numbers of metrics.json go along, unless they alone are as large as a report should be.
_MOST_NUMBERS = 3_000_000
_COLUMNS = ("query_id", "query", "expected", "answer", "em", "f1")
_OPTIONAL = ("condition_comparisons", "forgetting", "faithfulness", "judge", "against")
_FAITHFULNESS = (
    ("supported", "supported answers"),
    ("citation_precision", "citation precision"),
    ("citation_recall", "citation recall"),
)


def render_report(metrics: Mapping[str, Any], per_query: pd.DataFrame, passages: pd.DataFrame, title: str) -> str:
    """Render the report as self-contained HTML: no external loads, below 15 MB.

    The charts are SVG drawn by templates: Plotly's script alone weighs 4.6 MB. A content security policy lets only
    the report's own style and script run, by their hashes, so text from the data stays text even if escaping failed.
    Parts that `metrics` lacks, or has as None, are named at the end of the report with what they need.

    Args:
        metrics: as `summarise` returns them, with `gate`: {name, ndcg@10 (number or None), shipped (bool), reason} for
            each candidate of the release decision; and, as far as they were measured, `conditions`,
            `condition_comparisons`, `decomposition`, `slices`, `sweep`, `calibration`, `forgetting`, `faithfulness`,
            `judge`, `against`.
        per_query: one row per test question: query_id, query, expected (list of str), answer, em, f1. Further columns
            are shown where they are there: bleu, rouge1, rouge2, rougeL, score; category; rank_<system> and
            ndcg@10_<system>; slice_<dimension>; em_, f1_ and answer_<condition>; passage_ids (list, as read),
            right_ids (list), posteriors (list, per passage_ids); passage_id, start, end (the answer in what
            `passage_inputs` makes of that passage; -1 without). Any value may be missing.
        passages: passage_id, title, text; those that `per_query` names are used. When all this is too much for the
            file, passages are cut first and queries left out last; the report says what.
        title: of the page.
    Returns:
        the HTML document.
    Raises:
        ValueError: a column of `per_query` or `passages` is missing, or `metrics` holds a number that JSON cannot.
    """
    from markupsafe import Markup

    require_columns(per_query, "per_query", _COLUMNS)
    require_columns(passages, "passages", ["passage_id", "title", "text"])
    template, style, script = _templates()
    numbers = safe_json(metrics)
    values = _values(metrics, per_query) | {
        "title": title,
        "style": Markup(style),  # noqa: S704 - ours, from the package
        "script": Markup(script),  # noqa: S704
        "style_hash": csp_hash(style),
        "script_hash": csp_hash(script),
        "numbers": Markup(numbers) if len(numbers) <= _MOST_NUMBERS else "",  # noqa: S704 - safe_json escapes it
    }

    def render(table: str, left_out: str) -> str:
        html: str = template.render(values, table=Markup(table), left_out=left_out)  # noqa: S704 - from safe_json
        # Half of a surrogate pair, which a damaged document may hold, cannot be written as UTF-8.
        return html.encode("utf-8", "replace").decode("utf-8")

    room = MOST_BYTES - len(render("", "").encode()) - 1_000
    packed = pack_within(per_query, passages, room, CATEGORIES)
    return render(packed.json, packed.left_out)


def _templates() -> tuple[Any, str, str]:
    """The page's template, style and script."""
    folder = resources.files("ragsmith.evaluate") / "templates"
    with resources.as_file(folder) as path:
        pages = environment(path)
        pages.filters.update(metric=metric_label, p=format_p, percent=_percent, words=_words, fact=fact)
        # Loaded now: what is included must be read while the folder is there.
        for name in pages.list_templates(filter_func=lambda name: name.startswith("report") and name.endswith(".j2")):
            pages.get_template(name)
        style, script = ((path / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
        return pages.get_template("report.html.j2"), style, script


def _values(metrics: Mapping[str, Any], per_query: pd.DataFrame) -> dict[str, Any]:
    """What the templates show, section by section."""
    retrieval = metrics["retrieval"]
    conditions = _ordered(metrics.get("conditions") or {})
    answers = metrics["answers"]
    forgetting, against = metrics.get("forgetting"), metrics.get("against")
    faithfulness = metrics.get("faithfulness") or {}
    values: dict[str, Any] = {
        "metrics": {**dict.fromkeys(_OPTIONAL), **metrics},
        "headlines": (retrieval_headline(metrics), answers_headline(metrics)),
        "tiles": tiles(metrics),
        "findings": findings(metrics),
        "run": run_facts(metrics["run"], metrics["queries"]["test"]),
        "names": _names(retrieval),
        "dots_of": lambda name: [(system, row[name]) for system, row in retrieval.items() if name in row],
        "buckets": BUCKETS,
        "stacks": rank_stacks(per_query),
        "gate": metrics.get("gate") or [],
        "conditions": conditions,
        "condition_words": CONDITIONS,
        "conditions_of": lambda name: [(_words(key), row[name]) for key, row in conditions.items() if row.get(name)],
        "answer_names": [name for name in ANSWER_METRICS if any(name in row for row in conditions.values())],
        "answers_served": [(metric_label(name), answers[name]) for name in ANSWER_METRICS if answers.get(name)],
        "errors": decomposition_view(metrics.get("decomposition")),
        "sweep": sweep_view(metrics.get("sweep")),
        "slices": slices_view(metrics.get("slices")),
        "calibration": calibration_view(metrics.get("calibration")),
        "posterior": posterior_view(per_query),
        "forgetting_names": _names(forgetting["systems"]) if forgetting else [],
        "faithfulness_dots": [(label, faithfulness[key]) for key, label in _FAITHFULNESS if faithfulness.get(key)],
        "against_apart": _apart(against["queries"]) if against else 0,
        "missing": not_measured(metrics),
        "total": len(per_query),
    }
    contents = _contents(values)
    return values | {"contents": contents, "names_of": dict(contents)}


def _contents(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and name of each section that there is, in the order of the page."""
    metrics = values["metrics"]
    there = {
        "run": ("Run", True),
        "retrieval": ("Retrieval", True),
        "comparisons": ("Comparisons", metrics["comparisons"]),
        "gate": ("What ships", values["gate"]),
        "answers": ("Answers", metrics["answers"] or values["conditions"]),
        "errors": ("What goes wrong", values["errors"]),
        "sweep": ("Number of passages", values["sweep"]),
        "slices": ("Slices", values["slices"]),
        "calibration": ("Confidence", values["calibration"]),
        "posteriors": ("The reader's belief", values["posterior"]),
        "forgetting": ("Forgetting", metrics["forgetting"]),
        "faithfulness": ("Faithfulness", metrics["faithfulness"]),
        "judge": ("Judge", metrics["judge"]),
        "against": ("Earlier version", metrics["against"]),
        "queries": ("Query by query", True),
        "missing": ("Not in this report", values["missing"]),
    }
    return [(section, name) for section, (name, content) in there.items() if content]


def _ordered(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Known conditions first, in the order in which they are explained."""
    known = [name for name in CONDITIONS if name in conditions]
    return {name: conditions[name] for name in dict.fromkeys([*known, *conditions])}


def _names(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for by_metric in systems.values() for name in by_metric))


def _apart(counts: Mapping[str, int]) -> int:
    """Questions that only one of two versions has, or that changed."""
    return sum(counts.get(name, 0) for name in ("only_a", "only_b", "changed_text"))


def _percent(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _words(name: str) -> str:
    """The name of a dimension as people write it."""
    return str(name).replace("_", " ")
