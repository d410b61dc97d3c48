import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pandas as pd
import pytest

from ragsmith.evaluate.report import render_report
from ragsmith.evaluate.report.page import MOST_BYTES

VOID = {"meta", "input", "link", "img", "br", "hr"}  # SVG closes its own, with "/>"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></td>{{ 7 * 7 }}\u202e\u2028\x1b"
OPTIONAL = ("conditions", "condition_comparisons", "decomposition", "slices", "sweep", "calibration", "forgetting",
            "faithfulness", "judge", "against", "gate")  # fmt: skip


class Page(HTMLParser):
    """Collects what a browser would see, and fails on tags that do not match and ids that repeat."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.inline, self.text, self.links = [], [], {}, [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.ids = [attrs["id"] for _, attrs in self.tags if "id" in attrs]
        assert len(self.ids) == len(set(self.ids))

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

    def words(self):
        return " ".join(" ".join(self.text).split())

    def json(self, name):
        (block,) = [data for attrs, data in self.inline["script"] if attrs.get("id") == name]
        assert "<" not in block
        return json.loads(block)


@pytest.fixture
def html(full_metrics, full_per_query, passages):
    return render_report(full_metrics, full_per_query, passages, "Evaluation of the sample corpus")


def test_report_parses_and_says_what_matters(html):
    page = Page(html)
    for expected in (
        "Evaluation of the sample corpus",
        "on 120 test queries",
        "of the questions are answered exactly right",
        "base.name all-MiniLM-L6-v2",
        "docs, wiki",
        "bm25 → tuned",
        "not shipped",
        "highest dev ndcg@10: +0.06 over base",
        "Differences that this test set shows with 80 % power",
        "base retrieved → retrieved",
        "with a perfect reader",
        "By question word",
        "an entailment model",
        "20261101T000000Z-aaaaaaaa",
    ):
        assert expected in page.words(), expected
    table = page.json("table")
    assert len(table["columns"]["id"]) == 120 and "tools.walk_119" in table["columns"]["expected"][119]


def test_each_section_is_in_the_contents_and_says_in_a_line_what_it_is(html):
    page = Page(html)
    expected = ["run", "retrieval", "comparisons", "gate", "answers", "errors", "sweep", "slices", "calibration",
                "posteriors", "forgetting", "faithfulness", "judge", "against", "queries"]  # fmt: skip
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == expected
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert re.findall(r'href="#(\w+)"', contents) == expected
    for section in re.findall(r"<section.*?</section>", html, re.DOTALL):
        assert re.search(r'</h2>\s*<p class="note">\s*\S', section), section[:80]


@pytest.mark.parametrize("value", ["missing", None])
def test_parts_that_were_not_measured_are_left_out_and_said(full_metrics, per_query, passages, value):
    bare = {name: part for name, part in full_metrics.items() if name not in OPTIONAL}
    if value is None:
        bare |= dict.fromkeys(OPTIONAL)
    page = Page(render_report(bare, per_query, passages, "t"))
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["run", "retrieval", "comparisons", "answers", "queries", "missing"]
    for name in ("Error decomposition", "Slices", "Faithfulness", "Language model as judge", "Earlier version"):
        assert f"{name} :" in page.words(), name
    targets = {link.removeprefix("#") for link in page.links}
    assert targets <= set(page.ids)


def test_table_with_the_oldest_columns_alone_is_shown(metrics, per_query, passages):
    oldest = per_query[["query_id", "query", "expected", "answer", "em", "f1"]]
    page = Page(render_report(metrics, oldest, passages, "t"))
    assert page.json("table")["ranks"] == [] and "Rank of the first right passage" not in page.words()


def test_links_lead_within_the_report_only(html):
    page = Page(html)
    assert page.links and {link[0] for link in page.links} == {"#"}
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not re.search(
        r"https?://|@import|url\(|javascript:", html.replace("http://www.w3.org/2000/svg", "")
    )  # a name
    assert not any(tag in ("link", "iframe", "object", "embed", "base", "img", "image", "use") for tag, _ in page.tags)
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


def test_script_never_makes_markup_from_text():
    script = (resources.files("ragsmith.evaluate") / "templates/report.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|fetch\(", script)


def poisoned(value):
    """The same structure with every text in it replaced, keys that the report looks up aside."""
    if isinstance(value, dict):
        return {key: poisoned(part) for key, part in value.items()}
    if isinstance(value, list):
        return [poisoned(part) for part in value]
    return EVIL if isinstance(value, str) else value


def test_markup_in_the_data_stays_text(full_metrics, full_per_query, passages):
    texts = dict.fromkeys(["query_id", "query", "answer", "category", "slice_source", "passage_id"], EVIL)
    per_query = full_per_query.assign(**texts).rename(
        columns={"rank_tuned": f"rank_{EVIL}", "em_oracle": f"em_{EVIL}", "slice_source": f"slice_{EVIL}"}
    )
    per_query["expected"] = [[EVIL]] * len(per_query)
    passages = passages.assign(title=EVIL, text=EVIL)
    passages.loc[len(passages)] = EVIL
    evil = {
        **{name: poisoned(part) for name, part in full_metrics.items() if name not in ("retrieval", "comparisons")},
        "run": {EVIL: EVIL, "nested": {EVIL: [EVIL]}},
        "retrieval": {EVIL: full_metrics["retrieval"]["base"], **full_metrics["retrieval"]},
        "comparisons": [{**full_metrics["comparisons"][0], "b": EVIL}],
    }
    evil["conditions"] = {EVIL: full_metrics["conditions"]["oracle"]}
    evil["sweep"] = {**full_metrics["sweep"], "retrieval": {EVIL: full_metrics["sweep"]["retrieval"]["base"]}}
    evil["forgetting"]["systems"] = {EVIL: full_metrics["forgetting"]["systems"]["base"]}
    page = Page(render_report(evil, per_query, passages, EVIL))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 3 and "img" not in tags
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "".join(page.text).count("<script>alert(1)</script>") >= 40
    assert page.json("table")["columns"]["query"] == [EVIL] * len(per_query)
    assert page.json("table")["passages"]["texts"][0] == EVIL


def test_numbers_can_be_taken_from_the_report_even_with_script_tags_in_them(metrics, per_query, passages):
    evil = {**metrics, "run": {"note": "</script><!--<script>" + EVIL}}
    assert Page(render_report(evil, per_query, passages, "t")).json("metrics") == evil


def test_half_a_surrogate_pair_does_not_stop_the_report(metrics, per_query, passages):
    per_query["expected"] = [["broken \ud83d"]] * len(per_query)
    per_query["query"] = pd.Series(["broken \ud83d"] * len(per_query), dtype=object)
    html = render_report(metrics, per_query, passages, "broken \udc00 title")
    html.encode("utf-8")
    assert "broken ? title" in html


def test_missing_values_leave_empty_cells(full_metrics, full_per_query, passages):
    blank = full_per_query.assign(**dict.fromkeys(full_per_query.columns.drop("query_id")))
    page = Page(render_report(full_metrics, blank, passages, "t"))
    assert "None" not in page.words() and "nan" not in page.words().lower()
    columns = page.json("table")["columns"]
    assert set(columns["query"]) == {""} and set(columns["em"]) == {None} and columns["expected"][0] == []


def test_report_without_queries_passages_or_texts_still_renders(full_metrics, full_per_query, passages):
    page = Page(render_report(full_metrics, full_per_query.iloc[:0], passages.iloc[:0], ""))
    assert "0 test questions" in page.words() and page.json("table")["columns"]["id"] == []


def test_report_without_answers_comparisons_and_gate_still_renders(metrics, per_query, passages):
    bare = {**metrics, "answers": {}, "comparisons": [], "queries": {"test": 40, "smallest_detectable_difference": {}}}
    text = Page(render_report(bare, per_query, passages, "t")).words()
    assert "No two systems were compared" in text and "What ships" not in text and "Comparisons" not in text


def test_a_name_of_100_000_characters_is_cut(metrics, per_query, passages):
    html = render_report({**metrics, "run": {"model": "x" * 100_000}}, per_query, passages, "t")
    assert "x" * 2_000 not in html[: html.index('<script type="application/json"')]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["word " * 700, "漢字" * 700, "<&\"'>" * 700])
def test_ten_thousand_queries_stay_below_15_mb_and_what_is_cut_is_said(full_metrics, full_per_query, text):
    copies = 10_000 // len(full_per_query) + 1
    many = pd.concat([full_per_query] * copies, ignore_index=True).iloc[:10_000]
    many = many.assign(query_id=[f"q{n}" for n in range(10_000)])
    many["passage_ids"] = [[f"p{n}-{rank}" for rank in range(10)] for n in range(10_000)]
    ids = [i for read in many["passage_ids"] for i in read]
    passages = pd.DataFrame({"passage_id": ids, "title": "a title", "text": text})
    html = render_report(full_metrics, many, passages, "t")
    page = Page(html)
    table = page.json("table")
    assert len(html.encode()) <= MOST_BYTES
    assert len(table["columns"]["id"]) == 10_000 and len(table["passages"]["ids"]) >= 30_000
    assert "To keep this file small" in page.words() and "per_query.parquet holds everything" in page.words()


@pytest.mark.parametrize(
    ("table", "column"), [("per_query", "expected"), ("per_query", "em"), ("passages", "title"), ("passages", "text")]
)
def test_missing_column_is_named(metrics, per_query, passages, table, column):
    tables = {"per_query": per_query, "passages": passages}
    tables[table] = tables[table].drop(columns=column)
    with pytest.raises(ValueError, match=f"Table {table} lacks column '{column}'"):
        render_report(metrics, **tables, title="t")


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_worked_out_as_wcag_does():
    assert contrast("#000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#fff") == pytest.approx(
        4.48, abs=0.005
    )


@pytest.fixture(scope="module")
def css():
    return (resources.files("ragsmith.evaluate") / "templates/report.css").read_text("utf-8")


@pytest.mark.parametrize("dark", [False, True])
def test_colours_contrast_as_wcag_aa_asks(css, dark):
    texts = [(name, back) for name in ("text", "soft", "accent") for back in ("page", "card")]
    texts += [("good", "good-back"), ("bad", "bad-back"), ("good", "card"), ("bad", "card"), ("text", "line")]
    texts += [("mark-text", "mark"), ("on-bucket-4", "bucket-4"), ("on-part-1", "part-1"), ("on-part-4", "part-4")]
    texts += [(f"on-heat-{level}", f"heat-{level}") for level in range(11)]
    light, other = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", light))
    if dark:
        colours |= dict(re.findall(r"--([\w-]+): (#\w+)", other))
    for name, back in texts:
        assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
    for white in ("bucket-0", "bucket-1", "bucket-2", "part-0", "part-2", "part-3"):
        assert contrast("#fff", colours[white]) >= 4.5, white  # bold shares in the bars
    for line in range(7):
        assert contrast(colours[f"line-{line}"], colours["card"]) >= 3, line
