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
