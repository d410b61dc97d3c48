"""The report as a person meets it: opened in headless Chromium from a file."""

import json
import shutil
import time

import pandas as pd
import pytest

from ragsmith.evaluate.report import render_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed: apt-get install chromium-driver"
)
EVIL = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'><svg onload='window.hacked=3'></svg>"
    "</script><a href='javascript:window.hacked=4'>go</a>\"'\u2028\u202e\x1b[31m"
)
PAGE = 50


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    options.add_argument("--force-prefers-reduced-motion")  # a click must not wait for smooth scrolling
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """A fresh page, with nothing emulated and nothing left in the logs; in the end it must have logged no error."""
    for command, arguments in (
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Emulation.setEmulatedMedia", {"features": []}),
        ("Emulation.setScriptExecutionDisabled", {"value": False}),
    ):
        chromium.execute_cdp_cmd(command, arguments)
    chromium.get("about:blank")
    for name in ("browser", "performance"):
        chromium.get_log(name)
    yield chromium
    assert chromium.get_log("browser") == []


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page, given as HTML, from a file."""

    def opened(html):
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        browser.get(path.as_uri())
        return browser

    return opened


@pytest.fixture
def report(show, full_metrics, full_per_query, passages):
    return show(render_report(full_metrics, full_per_query, passages, "A whole report"))


def rows(browser):
    """The rows of the page that is shown, as lists of the texts of their cells."""
    script = """return [...document.querySelectorAll('#rows tbody tr:not(.detail)')]
        .map((row) => [...row.cells].map((cell) => cell.textContent))"""
    return browser.execute_script(script)


def column(browser, title):
    titles = [header.text.split(" ")[0] for header in browser.find_elements(By.CSS_SELECTOR, "#rows thead th")]
    return [row[titles.index(title)] for row in rows(browser)]


def header(browser, title):
    return next(
        button for button in browser.find_elements(By.CSS_SELECTOR, "#rows thead button") if button.text == title
    )


def every_row(browser):
    found = rows(browser)
    while browser.find_element(By.ID, "next").is_enabled():
        browser.execute_script("document.getElementById('next').click()")
        found += rows(browser)
    return found


def count(browser):
    return browser.find_element(By.ID, "count").text


def choose(browser, name, label):
    Select(browser.find_element(By.ID, f"filter-{name}")).select_by_visible_text(label)


def search(browser, words):
    field = browser.find_element(By.ID, "search")
    field.clear()
    field.send_keys(words)
    time.sleep(0.3)  # the search waits for a pause in typing


def open_row(browser, query):
    search(browser, query)
    browser.find_element(By.CSS_SELECTOR, "#rows button.open").send_keys(Keys.ENTER)
    return browser.find_element(By.CSS_SELECTOR, "#rows tr.detail")


def test_table_shows_all_queries_in_pages_of_fifty(report, full_per_query):
    assert len(rows(report)) == PAGE and count(report) == "120 queries"
    assert not report.find_element(By.ID, "previous").is_enabled()
    found = every_row(report)
    assert [row[0] for row in found] == full_per_query["query"].tolist()
    assert "101–120, page 3 of 3" in report.find_element(By.ID, "page").text
    report.execute_script("document.getElementById('previous').click()")
    assert rows(report)[0][0] == full_per_query["query"][PAGE]


def test_table_sorts_numbers_both_ways_and_texts_by_number_within(report, full_per_query):
    header(report, "F1").click()
    ascending = column(report, "F1")
    assert ascending == [f"{value:.2f}" for value in sorted(full_per_query["f1"])[:PAGE]]
    header(report, "F1").click()
    assert column(report, "F1") == [f"{value:.2f}" for value in sorted(full_per_query["f1"], reverse=True)[:PAGE]]
    sorted_by = report.find_elements(By.CSS_SELECTOR, "#rows th[aria-sort]")
    assert [(th.text[:2], th.get_attribute("aria-sort")) for th in sorted_by] == [("F1", "descending")]
    header(report, "Question").click()
    numbers = [int(row[0].split()[-1].rstrip("?")) for row in every_row(report) if row[0].startswith("How do I copy")]
    assert numbers == sorted(numbers) and len(numbers) == 6


def test_ranks_that_were_not_found_come_last_both_ways(report, full_per_query):
    missing = int(full_per_query["rank_bm25"].isna().sum())
    assert 0 < missing < PAGE
    for _ in range(2):
        header(report, "bm25").click()
        ranks = [row[6] for row in every_row(report)]
        assert ranks[-missing:] == ["–"] * missing and "–" not in ranks[:-missing]


def test_filters_show_what_they_say(report, full_per_query):
    table = full_per_query
    choose(report, "em", "wrong")
    assert count(report) == f"{int((table['em'] == 0).sum())} of 120 queries"
    choose(report, "category", "reader's error")
    assert count(report) == f"{int((table['category'] == 'retrieved_wrong').sum())} of 120 queries"
    report.find_element(By.ID, "everything").click()
    time.sleep(0.1)
    assert count(report) == "120 queries"
    choose(report, "slice", f"wiki ({int((table['slice_source'] == 'wiki').sum())})")
    assert count(report) == f"{int((table['slice_source'] == 'wiki').sum())} of 120 queries"
    report.find_element(By.ID, "everything").click()
    time.sleep(0.1)
    ranks = {name: table[f"rank_{name}"].astype("Float64").fillna(float("inf")) for name in ("base", "tuned")}
    choose(report, "ranks", "tuned better than base")
    assert count(report) == f"{int((ranks['tuned'] < ranks['base']).sum())} of 120 queries"
    choose(report, "ranks", "base better than tuned")
    assert count(report) == f"{int((ranks['tuned'] > ranks['base']).sum())} of 120 queries"
    choose(report, "ranks", "base same as tuned")
    assert count(report) == f"{int((ranks['tuned'] == ranks['base']).sum())} of 120 queries"


def test_search_finds_words_in_any_order_and_says_when_there_is_nothing(report, full_per_query, passages):
    titles = dict(zip(passages["passage_id"], passages["title"], strict=True))
    texts = [
        " ".join([row.query, row.answer, *row.expected, *(titles[i] for i in row.passage_ids)]).lower()
        for row in full_per_query.itertuples()
    ]
    wanted = [all(word in text for word in ("file", "copy", "how")) for text in texts]
    search(report, "file COPY how")
    assert [row[0] for row in rows(report)] == full_per_query["query"][wanted].tolist() and 0 < sum(wanted) < PAGE
    search(report, "nothing like this")
    assert count(report) == "0 of 120 queries" and "No query is like this" in rows(report)[0][0]


def test_buttons_of_other_sections_show_their_queries(report, full_per_query):
    buttons = report.find_elements(By.CSS_SELECTOR, "#errors button.show")
    chosen = next(button for button in buttons if button.get_attribute("data-value") == "missed_wrong")
    report.execute_script("arguments[0].click()", chosen)
    time.sleep(0.1)
    assert count(report) == f"{int((full_per_query['category'] == 'missed_wrong').sum())} of 120 queries"
    one = report.find_element(By.CSS_SELECTOR, "#posteriors button.show")
    query_id = one.get_attribute("data-value")
    report.execute_script("arguments[0].click()", one)
    time.sleep(0.1)
    detail = report.find_element(By.CSS_SELECTOR, "#rows tr.detail")
    assert query_id in detail.text


def test_opened_row_shows_answers_scores_passages_and_where_the_answer_stands(report, full_per_query):
    answered = full_per_query[full_per_query["category"] == "retrieved_right"]
    in_text = answered[answered["passage_id"].str[1:].astype(int) % 2 == 1].iloc[0]
    in_title = answered[answered["passage_id"].str[1:].astype(int) % 2 == 0].iloc[0]
    for row, place in ((in_text, ".text"), (in_title, ".title")):
        detail = open_row(report, row["query"])
        for expected in (row["query_id"], *row["expected"], "EM 1.00", "oracle", "base", "rank 1", row["passage_id"]):
            assert expected in detail.text, expected
        assert len(detail.find_elements(By.CSS_SELECTOR, "article.passage")) == 5 + (
            len(set(row["right_ids"]) - set(row["passage_ids"]))
        )
        marked = detail.find_elements(By.CSS_SELECTOR, f"article {place} mark.span")
        assert [mark.text for mark in marked] == [row["answer"]]
        assert row["answer"] in [mark.text for mark in detail.find_elements(By.CSS_SELECTOR, "article mark.accepted")]
        rights = [
            article.find_element(By.TAG_NAME, "code").text
            for article in detail.find_elements(By.CSS_SELECTOR, "article.right")
        ]
        assert set(rights) == set(row["right_ids"])
        shares = [mark.text for mark in detail.find_elements(By.CSS_SELECTOR, "article header .number")]
        assert shares == [f"{round(100 * weight)} %" for weight in row["posteriors"]]
    button = report.find_element(By.CSS_SELECTOR, "#rows button.open")
    assert button.get_attribute("aria-expanded") == "true"
    button.send_keys(Keys.ENTER)
    assert report.find_elements(By.CSS_SELECTOR, "#rows tr.detail") == []


@pytest.mark.parametrize(
    ("title", "text", "answer"),
    [
        ("title", "😀😀 an emoji takes two units: a😀b is it. a😀b again", "a😀b"),
        ("😀 > 標題", "東京は日本の首都です。", "東京"),
        ("t", "x" * 30_000 + " far below stands the answer, " + "y" * 1_000, "the answer"),
    ],
)
def test_answer_is_marked_where_the_reader_found_it(show, metrics, title, text, answer):
    seen = f"{title}\n{text}"
    start = seen.index(answer)
    row = {"query_id": "q", "query": "where?", "expected": [answer], "answer": answer, "em": 1.0, "f1": 1.0}
    row |= {"passage_ids": ["p"], "right_ids": ["p"], "passage_id": "p", "start": start, "end": start + len(answer)}
    passages = pd.DataFrame([("p", title, text)], columns=["passage_id", "title", "text"])
    browser = show(render_report(metrics, pd.DataFrame([row]), passages, "t"))
    detail = open_row(browser, "where")
    assert [mark.text for mark in detail.find_elements(By.CSS_SELECTOR, "article mark.span")] == [answer]
    before = browser.execute_script(
        "const mark = document.querySelector('article mark.span'); return mark.previousSibling?.textContent ?? ''"
    )
    assert seen[:start].endswith(before[-20:].removeprefix("… "))


def test_accepted_answers_are_marked_as_words_and_not_within_words(show, metrics):
    row = {"query_id": "q", "query": "where?", "expected": ["is", "c++ (new)"], "answer": "", "em": 0.0, "f1": 0.0,
           "passage_ids": ["p"]}  # fmt: skip
    text = "This island is old. IS it? C++ (new) it is"
    passages = pd.DataFrame([("p", "t", text)], columns=["passage_id", "title", "text"])
    detail = open_row(show(render_report(metrics, pd.DataFrame([row]), passages, "t")), "where")
    marks = [mark.text for mark in detail.find_elements(By.CSS_SELECTOR, "article mark.accepted")]
    assert marks == ["is", "IS", "C++ (new)", "is"]


def test_charts_draw(report):
    boxes = report.execute_script(
        """for (const details of document.querySelectorAll('details')) details.open = true;
        return [...document.querySelectorAll('main section')].map((section) => [section.id,
            [...section.querySelectorAll('svg[role=img]')].map((svg) => { const box = svg.getBoundingClientRect();
            return [box.width, box.height, svg.querySelectorAll('path,rect,circle,line').length]; })])"""
    )
    drawn = {section: charts for section, charts in boxes if charts}
    assert set(drawn) == {"retrieval", "answers", "errors", "sweep", "slices", "calibration", "posteriors",
                          "faithfulness", "judge"}  # fmt: skip
    for section, charts in drawn.items():
        for width, height, shapes in charts:
            assert width > 50 and height > 10 and shapes > 0, section
    lines = report.execute_script(
        "return [...document.querySelectorAll('#sweep svg.lines path.line')].map((line) => line.getTotalLength())"
    )
    assert len(lines) == 6 * 5 + 2 and min(lines) > 50
    cells = report.find_elements(By.CSS_SELECTOR, ".heat td")
    backgrounds = {cell.value_of_css_property("background-color") for cell in cells}
    assert len(cells) == 40 * 5 and len(backgrounds) > 4


def requests(browser):
    """Addresses that the page asked for, as the browser's own log of the network has them."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def test_nothing_is_loaded_from_outside(report):
    open_row(report, "copy")
    assert requests(report) == [report.current_url.partition("#")[0]]


def test_the_log_of_the_network_would_show_a_load(show):
    browser = show("<!doctype html><img src='other.png'>")
    assert any(url.endswith("other.png") for url in requests(browser))
    assert browser.get_log("browser")  # it is not there


def test_the_attack_of_the_next_test_works_on_a_page_without_defence(show):
    browser = show(f"<!doctype html><meta charset=utf-8><body>{EVIL}")
    time.sleep(0.2)
    assert browser.execute_script("return window.hacked") in (2, 3)
    browser.get_log("browser")


def test_nothing_from_the_data_is_executed(show, full_metrics, full_per_query, passages):
    texts = dict.fromkeys(["query", "answer", "category", "slice_source"], EVIL)
    per_query = full_per_query.assign(**texts, answer_oracle=EVIL).rename(
        columns={"rank_tuned": f"rank_{EVIL}", "em_base_retrieved": f"em_{EVIL}", "slice_source": f"slice_{EVIL}"}
    )
    per_query["expected"] = [[EVIL, "(", "__proto__"]] * len(per_query)
    per_query["rank___proto__"] = 1
    metrics = {**full_metrics, "retrieval": {EVIL: full_metrics["retrieval"]["base"], **full_metrics["retrieval"]}}
    metrics["run"] = {EVIL: {EVIL: EVIL}}
    html = render_report(metrics, per_query, passages.assign(title=EVIL, text=f"{EVIL} here"), EVIL)
    browser = show(html)
    elements = "return document.querySelectorAll('img, iframe, object, embed, script, main a').length"
    before = browser.execute_script(elements)
    for button in browser.find_elements(By.CSS_SELECTOR, "#rows button.open")[:3]:
        button.click()
    header(browser, "Answer").click()
    search(browser, "hacked")
    assert count(browser) == "120 of 120 queries"
    browser.find_element(By.CSS_SELECTOR, "#rows button.open").click()
    detail = browser.find_element(By.CSS_SELECTOR, "#rows tr.detail").get_attribute("textContent")
    assert detail.count("<script>window.hacked=1</script>") >= 5
    browser.execute_script("document.querySelector('#posteriors button.show').click()")
    time.sleep(0.2)
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.execute_script(elements) == before
    assert browser.execute_script(
        """return [...document.querySelectorAll('*')].every((element) =>
        [...element.attributes].every(({name, value}) => !name.startsWith('on') && !/^javascript:/i.test(value)))"""
    )


def test_a_script_that_got_into_the_page_would_be_blocked(report):
    """The second line of defence: the policy stops what escaping would have let through."""
    report.execute_script(
        """const script = document.createElement('script'); script.textContent = 'window.hacked = 1';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hacked=2">')"""
    )
    time.sleep(0.2)
    assert report.execute_script("return window.hacked ?? null") is None
    blocked = report.get_log("browser")
    assert blocked and all("Content Security Policy" in entry["message"] for entry in blocked)


LONG = "unbroken" * 60


def test_phone_needs_no_sideways_scrolling(browser, show, full_metrics, full_per_query, passages):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    per_query = full_per_query.rename(columns={"rank_hybrid": f"rank_{LONG}", "em_oracle": f"em_{LONG}"})
    per_query.loc[:2, ["query", "answer"]] = LONG
    per_query["slice_source"] = LONG
    metrics = {**full_metrics, "run": {LONG: LONG, "nested": {LONG: LONG}}}
    metrics["retrieval"][LONG] = metrics["retrieval"]["base"]
    metrics["slices"]["dimensions"][0]["slices"][0]["value"] = LONG
    show(render_report(metrics, per_query, passages.assign(title=LONG, text=LONG), LONG))
    browser.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
    browser.execute_script("document.querySelector('#rows button.open').click()")
    widths = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert widths == [380, 380]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_of_the_system(browser, report, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    styles = "const style = getComputedStyle(arguments[0]); return [style.color, style.backgroundColor]"

    def brightness(colour):
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    for element in ("body", "section"):
        text, back = browser.execute_script(styles, browser.find_element(By.CSS_SELECTOR, element))
        if back == "rgba(0, 0, 0, 0)":
            continue
        assert (brightness(text) > brightness(back)) == (scheme == "dark"), element


def test_keyboard_reaches_everything_that_can_be_done(report):
    names = report.execute_script(
        """return [...document.querySelectorAll('button, a, input, select, summary')]
        .filter((element) => element.tabIndex < 0 || !(element.textContent.trim() || element.labels?.length))
        .map((element) => element.outerHTML)"""
    )
    assert names == []
    unnamed = report.execute_script(
        """return [...document.querySelectorAll('svg:not([aria-hidden])')]
        .filter((svg) => !svg.getAttribute('aria-label')).length"""
    )
    assert unnamed == 0


def test_without_scripts_the_figures_stand_and_the_table_says_what_it_needs(
    browser, show, full_metrics, full_per_query, passages
):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    show(render_report(full_metrics, full_per_query, passages, "t"))
    assert "This table needs JavaScript" in browser.find_element(By.ID, "queries").text
    assert browser.find_element(By.CSS_SELECTOR, "#retrieval svg.track").size["width"] > 50


def test_oldest_tables_are_shown_without_errors(show, metrics, per_query, passages):
    oldest = per_query[["query_id", "query", "expected", "answer", "em", "f1"]]
    browser = show(render_report(metrics, oldest, passages.iloc[:0], "t"))
    assert "accepted answers" in open_row(browser, "number 7").text


@pytest.mark.slow
def test_ten_thousand_queries_open_in_two_seconds(show, full_metrics, full_per_query):
    copies = pd.concat([full_per_query] * 84, ignore_index=True).iloc[:10_000]
    copies["query_id"] = [f"q{n}" for n in range(10_000)]
    copies["passage_ids"] = [[f"p{n}-{rank}" for rank in range(5)] for n in range(10_000)]
    ids = [i for read in copies["passage_ids"] for i in read]
    passages = pd.DataFrame({"passage_id": ids, "title": "a title", "text": "some text " * 17})
    html = render_report(full_metrics, copies, passages, "t")
    assert 13_000_000 < len(html.encode()) <= 15_000_000
    browser = show(html)
    assert browser.execute_script("return performance.getEntriesByName('ready')[0].startTime") < 2_000
    assert count(browser) == "10,000 queries"
    started = browser.execute_script("return performance.now()")
    header(browser, "F1").click()
    assert browser.execute_script("return performance.now()") - started < 2_000
