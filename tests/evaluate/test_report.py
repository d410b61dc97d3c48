import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from ragsmith.evaluate.report import MOST_BYTES, render_report

VOID = {"meta", "input", "link", "img", "br", "hr"}  # SVG closes its own, with "/>"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></td>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Collects what a browser would see, and fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.inline, self.text, self.links = [], [], {}, [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.inline.setdefault(self.open[-1], []).append((self.tags[-1][1], data))
        else:
            self.text.append(data)

    def rows(self):
        return sum(tag == "td" and attrs.get("data-label") == "EM" for tag, attrs in self.tags)


@pytest.fixture
def html(metrics, per_query, gate):
    return render_report(metrics, per_query, gate, "Evaluation of the sample corpus")


def test_report_parses_and_says_what_matters(html):
    page = Page(html)
    text = " ".join(" ".join(page.text).split())
    for expected in (
        "Evaluation of the sample corpus",
        "on 40 test queries",
        "retriever.base all-MiniLM-L6-v2",
        "docs, wiki",
        "bm25 → tuned",
        "not shipped",
        "better than base, p < 0.05",
        "shutil.copy | copy()",
        "How do I copy file number 39?",
        "Copies the file src",
    ):
        assert expected in text, expected
    assert page.rows() == 40


def test_nothing_is_loaded_from_elsewhere(html):
    page = Page(html)
    assert page.links == []
    assert not re.search(r"https?://|@import|url\(", html)
    assert not any(tag in ("link", "iframe", "object", "embed", "base", "form") for tag, _ in page.tags)
    assert not any("style" in attrs for _, attrs in page.tags)  # the policy would block it


def test_policy_allows_exactly_our_own_style_and_script(html):
    page = Page(html)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy

    def allowed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy

    scripts = [data for attrs, data in page.inline["script"] if attrs.get("type") != "application/json"]
    assert len(scripts) == 1 and allowed(scripts[0])
    assert [allowed(data) for _, data in page.inline["style"]] == [True]
    assert policy.count("sha256-") == 2


def test_markup_in_the_data_stays_text(metrics, per_query, gate):
    per_query = per_query.assign(query=EVIL, answer=EVIL, passage_title=EVIL, passage_text=EVIL).rename(
        columns={"rank_tuned": f"rank_{EVIL}"}
    )
    per_query["expected"] = [[EVIL]] * len(per_query)
    evil = {
        **metrics,
        "run": {EVIL: EVIL, "nested": {"list": [EVIL]}},
        "retrieval": {EVIL: metrics["retrieval"]["base"], **metrics["retrieval"]},
        "comparisons": [{**metrics["comparisons"][0], "b": EVIL}],
    }
    gate = [{"name": EVIL, "ndcg@10": 0.1, "shipped": True, "reason": EVIL}]
    page = Page(render_report(evil, per_query, gate, EVIL))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2 and "img" not in tags
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    text = "".join(page.text)
    assert text.count(EVIL) >= 4 * len(per_query) and "49" not in text.replace("number 49", "")


def test_numbers_can_be_taken_from_the_report_even_with_script_tags_in_them(metrics, per_query, gate):
    evil = {**metrics, "run": {"note": "</script><!--<script>" + EVIL}}
    page = Page(render_report(evil, per_query, gate, "t"))
    (block,) = [data for attrs, data in page.inline["script"] if attrs.get("type") == "application/json"]
    assert "<" not in block
    assert json.loads(block) == evil


def test_missing_values_leave_empty_cells(metrics, per_query, gate):
    unread = ["expected", "answer", "em", "f1", "passage_title", "passage_text"]
    text = " ".join(Page(render_report(metrics, per_query.assign(**dict.fromkeys(unread)), gate, "t")).text)
    assert "None" not in text and "nan" not in text.lower() and "✗" not in text


def test_ranks_that_were_not_found_sort_as_empty(html):
    assert 'data-label="base" data-sort="">–</td>' in html


def test_report_without_answers_comparisons_and_gate_still_renders(metrics, per_query):
    bare = {**metrics, "answers": {}, "comparisons": [], "queries": {"test": 40, "smallest_detectable_difference": {}}}
    text = " ".join(Page(render_report(bare, per_query, [], "t")).text)
    assert "No two systems were compared" in text and "What ships" not in text and "Comparisons" not in text


@pytest.mark.parametrize("text", ["word " * 1000, "漢字" * 1000, "<&\"'>" * 500])
def test_report_stays_small_and_says_what_it_leaves_out(metrics, per_query, gate, text):
    many = pd.concat([per_query] * 30, ignore_index=True).assign(query=text, answer=text, passage_text=text)
    html = render_report(metrics, many, gate, "t")
    shown = Page(html).rows()
    assert len(html.encode()) <= MOST_BYTES and 60 < shown < len(many)
    assert f"{shown} of 1,200 queries" in html


def test_missing_column_is_named(metrics, per_query, gate):
    with pytest.raises(ValueError, match="per_query lacks column 'expected'"):
        render_report(metrics, per_query.drop(columns="expected"), gate, "t")
