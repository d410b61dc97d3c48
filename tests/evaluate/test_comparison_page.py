import base64
import hashlib
from html.parser import HTMLParser

import pandas as pd
import pytest

from ragsmith.evaluate.compare_versions import compare_versions
from ragsmith.evaluate.comparison_page import comparison_headline, render_comparison
from ragsmith.evaluate.saved_version import SavedVersion

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></td>{{ 7 * 7 }}"


class Page(HTMLParser):
    """The tags, attributes and text that a browser would see."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def version(name, em, run=None, **columns):
    table = {
        "query_id": [f"q{number}" for number in range(len(em))],
        "query": [f"What is number {number}?" for number in range(len(em))],
        "answer": [f"{name} {number}" for number in range(len(em))],
        "em": em,
        "f1": em,
    }
    return SavedVersion(name, {"run": run or {}}, pd.DataFrame(table | columns))


@pytest.fixture
def result():
    a = version("before", [1.0] * 12 + [0.0] * 8, {"seed": 0, "models": {"reader": "small"}})
    b = version("after", [0.0] * 12 + [0.0] * 7 + [1.0], {"seed": 0, "models": {"reader": "large"}})
    return compare_versions(a, b, samples=200)


def test_page_says_what_got_better_and_worse_and_why_that_may_be(result):
    text = " ".join(" ".join(Page(render_comparison(result)).text).split())
    for expected in (
        "A: before B: after",
        "On 20 questions that both have, B is worse in EM, F1.",
        "Won by B: 1 questions",
        "Lost by B: 12 questions",
        "Tied: 7 questions",
        "What is number 19?",
        "-0.550",
        "models.reader small large",
    ):
        assert expected in text, expected


def test_headline_claims_only_what_is_shown(result):
    row = {**result["comparisons"][0], "metric": "ndcg@10", "system": "tuned", "difference": 0.2, "p_holm": 0.01}
    better = {**result, "comparisons": [row, {**row, "system": "base", "p_holm": 0.2}]}
    assert comparison_headline(better).endswith("B is better in nDCG@10 tuned.")
    both = {**result, "comparisons": [row, result["comparisons"][0]]}
    assert comparison_headline(both).endswith("B is better in nDCG@10 tuned and worse in EM.")
    none = {**result, "comparisons": [{**row, "p_holm": 0.05}]}
    assert comparison_headline(none) == "No difference is shown on 20 questions that both have."


def test_nothing_of_the_data_becomes_markup_and_nothing_is_loaded():
    evil = {"query": [EVIL] * 3, "answer": [EVIL] * 3, f"ndcg@10_{EVIL}": [0.0, 0.5, 1.0]}
    a = version(EVIL, [0.0, 1.0, 1.0], {EVIL: EVIL, "half": "\ud800"}, **evil)
    b = version(EVIL, [1.0, 0.0, 1.0], **evil)
    html = render_comparison(compare_versions(a, b, samples=50))
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not any(
        name.startswith("on") or name in ("src", "href", "style") for _, attrs in page.tags for name in attrs
    )
    assert "".join(page.text).count(EVIL) > 10 and "49" not in "".join(page.text)
    assert html.encode("utf-8", "replace")


def test_policy_allows_our_style_and_no_script(result):
    html = render_comparison(result)
    policy = next(attrs["content"] for _, attrs in Page(html).tags if "http-equiv" in attrs)
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none';") and "script-src" not in policy and "unsafe" not in policy


def test_long_lists_are_cut_and_the_page_says_so():
    a, b = version("a", [1.0, 0.0] + [0.0] * 700), version("b", [0.0, 1.0] + [1.0] * 700, {"x" * 9999: "y" * 9999})
    html = render_comparison(compare_versions(a, b, samples=50))
    assert "500 of 701 are shown." in " ".join(Page(html).text)
    assert "y" * 501 not in html and len(html) < 1_000_000


def test_equal_versions_make_a_page_too():
    html = render_comparison(compare_versions(version("a", [0.0, 1.0]), version("a", [0.0, 1.0]), samples=50))
    text = " ".join(Page(html).text)
    assert "No difference is shown" in text and "the run cards are the same" in text
