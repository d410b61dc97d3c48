"""The report: an evaluation as one HTML file.

`page` renders it; `findings` says it in sentences, `sections` and `charts` prepare what the templates draw; `reading`
finds what was read for each query, and `detail` packs it for the table that the page's own script shows.
"""

from ragsmith.evaluate.report.page import render_report

__all__ = ["render_report"]
