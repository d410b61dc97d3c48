"""The script that reads the library, loaded from its file: only its pure functions are called here."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ragsmith.collect.sample import SCRIPT


@pytest.fixture(scope="module")
def interpreter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interpreter_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented(a, b=1) -> None:
    """documented(a, b=1) -> None

    Does nothing at all.
    """


def test_a_docstring_that_begins_with_its_call_gives_the_call_once(interpreter: ModuleType) -> None:
    assert interpreter.entry("m.documented", documented) == ("m.documented(a, b=1) -> None", "Does nothing at all.")


def test_what_has_no_docstring_or_hardly_one_is_no_entry(interpreter: ModuleType) -> None:
    assert interpreter.entry("m.f", lambda: None) is None
    assert interpreter.entry("m.t", type("T", (), {"__doc__": "Too short."})) is None


def test_a_comment_in_an_example_does_not_read_as_a_heading(interpreter: ModuleType) -> None:
    thing = type("T", (), {"__doc__": "An example of use:\n\n# first step\nT()"})
    assert interpreter.entry("m.T", thing)[1] == "An example of use:\n\n    # first step\nT()"


def test_places_and_addresses_of_this_machine_are_left_out_of_signatures(interpreter: ModuleType) -> None:
    def here(path=sys.prefix, thing=documented):  # type: ignore[no-untyped-def]
        """Has defaults that differ by machine."""

    assert interpreter.signature("m.here", here) == "m.here(path='sys.prefix', thing=<function documented>)"
    assert not (Path(sys.prefix) / "unused").exists()


def test_self_is_no_argument_of_a_reader(interpreter: ModuleType) -> None:
    class Thing:
        def method(self, a):  # type: ignore[no-untyped-def]
            """Something."""

        def alone(self):  # type: ignore[no-untyped-def]
            """Something."""

    assert interpreter.signature("m.Thing.method", Thing.method) == "m.Thing.method(a)"
    assert interpreter.signature("m.Thing.alone", Thing.alone) == "m.Thing.alone()"


def test_builtins_are_one_document_a_type_and_one_for_the_rest(interpreter: ModuleType) -> None:
    sections = [{"heading": heading, "body": "b"} for heading in ("str(object='')", "str.join(iterable)", "len(obj)")]
    documents = interpreter.documents_of("builtins", "Built-in things.", sections)
    assert [(name, [s["heading"] for s in group]) for name, _, group in documents] == [
        ("builtins", ["len(obj)"]),
        ("str", ["str(object='')", "str.join(iterable)"]),
    ]


def test_modules_that_open_windows_or_browsers_are_never_listed(interpreter: ModuleType) -> None:
    assert {"antigravity", "this", "tkinter", "turtle", "turtledemo", "idlelib", "test"} <= interpreter.NEVER_IMPORT
