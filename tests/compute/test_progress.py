import logging
import sys

import pytest

from ragsmith.compute import progress as module
from ragsmith.compute.progress import progress


def test_a_log_gets_a_line_now_and_then_with_how_far_the_work_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), progress("encoding", total=10) as advance:
        advance(0)
        advance(4)
        advance(6)
    assert [record.message.rpartition(",")[0] for record in caplog.records] == [
        "encoding: 0 of 10",
        "encoding: 4 of 10",
        "encoding: 10 of 10",
    ]


def test_short_work_leaves_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress("encoding", total=2) as advance:
        advance(2)
    assert caplog.records == []


def test_without_a_label_nothing_is_shown(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), progress("", total=2) as advance:
        advance(2)
    assert caplog.records == [] and capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("encoding", total=2) as advance:
        advance(2)
    assert "encoding" in capsys.readouterr().err


def test_time_left_is_that_of_what_is_done_now_and_not_of_what_was_done_before(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 1.0, 21.0, 41.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO), progress("training", total=10_000) as advance:
        advance(9_000)  # a run that goes on says first what it had
        advance(10)
        advance(10)
    assert [record.message for record in caplog.records] == [
        "training: 9010 of 10000, about 1980 s left",
        "training: 9020 of 10000, about 1960 s left",
    ]
