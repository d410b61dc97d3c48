"""The client against a real server: what is asked, what is kept, what goes wrong, and where the key never is."""

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from language_model import completion, send, status
from pydantic import BaseModel, ConfigDict

from ragsmith.llm.client import FAILURES_IN_A_ROW, LLMClient
from ragsmith.llm.messages import Failure, Message, Prompt, Reply
from ragsmith.llm.settings import LLMError, LLMSettings

KEY = "sk-0123456789-very-secret"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    good: bool


def prompt(text: str, repeat: int = 0) -> Prompt:
    return Prompt((Message("system", "Be brief."), Message("user", text)), repeat)


def only(results):
    assert len(results) == 1
    return results[0]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """The package's first wait is half a second; what is tested is that it waits, and tries again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("TINY_KEY", KEY)


def test_the_request_is_that_of_the_protocol(endpoint, key):
    with endpoint.client(api_key_env="TINY_KEY", seed=7, temperature=0.5, max_tokens=9) as client:
        assert client.complete([prompt("hello", repeat=2)]) == [Reply("reply to hello", "stop")]
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    assert endpoint.requests == [
        {
            "model": "tiny",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
            "temperature": 0.5,
            "max_tokens": 9,
            "seed": 9,
        }
    ]


def test_replies_come_in_the_order_of_the_prompts_though_they_end_in_another(endpoint):
    def answer(body):
        text = body["messages"][-1]["content"]
        time.sleep(0.2 if text == "0" else 0)
        return text

    endpoint.answer = answer
    with endpoint.client(concurrency=3) as client:
        replies = client.complete([prompt(str(number)) for number in range(9)])
    assert [reply.text for reply in replies] == [str(number) for number in range(9)]
    assert 2 <= endpoint.most_at_once <= 3


def test_equal_prompts_are_asked_once_and_repeats_each_with_a_seed_of_their_own(endpoint):
    with endpoint.client() as client:
        replies = client.complete([prompt("a"), prompt("a"), prompt("a", repeat=1)])
    assert len(replies) == 3
    assert sorted(request["seed"] for request in endpoint.requests) == [0, 1]


def test_nothing_to_ask_is_nothing_asked(endpoint):
    with endpoint.client() as client:
        assert client.complete([]) == []
    assert endpoint.requests == []


def test_replies_are_kept_by_all_that_decides_them_and_by_nothing_else(endpoint, tmp_path):
    def asked(text="a", repeat=0, **settings):
        before = len(endpoint.requests)
        with endpoint.client(tmp_path, **settings) as client:
            assert only(client.complete([prompt(text, repeat)])).text == f"reply to {text}"
        return len(endpoint.requests) - before

    assert asked() == 1
    assert asked() == asked(timeout_s=9) == asked(concurrency=1) == asked(max_retries=0) == 0
    for changed in ({"text": "b"}, {"repeat": 1}, {"model": "other"}, {"seed": 5}, {"temperature": 0.1}):
        assert asked(**changed) == 1
        assert asked(**changed) == 0
    assert asked(max_tokens=7) == 1
    assert asked(base_url=endpoint.url.replace("127.0.0.1", "localhost")) == 1


def test_a_kept_reply_that_was_altered_is_asked_for_again(endpoint, tmp_path):
    for damage in (lambda text: text[:-9], lambda text: text.replace("reply to", "report of")):
        with endpoint.client(tmp_path) as client:
            client.complete([prompt("a")])
            kept = only([path for path in tmp_path.rglob("[!.]*.json") if ".altered-" not in path.name])
            kept.write_text(damage(kept.read_text()))
            before = len(endpoint.requests)
            assert only(client.complete([prompt("a")])).text == "reply to a"
        assert len(endpoint.requests) == before + 1


def test_a_run_that_is_killed_keeps_what_was_replied(endpoint, tmp_path):
    program = f"""
        import os, signal
        from pathlib import Path
        from ragsmith.llm import client as module
        from ragsmith.llm.messages import Message, Prompt
        from ragsmith.llm.settings import LLMSettings
        class Dying(module.LLMClient):
            def _ask(self, request):
                if request["messages"][-1]["content"] == "2":
                    os.kill(os.getpid(), signal.SIGKILL)
                return super()._ask(request)
        settings = LLMSettings(base_url={endpoint.url!r}, model="tiny", concurrency=1)
        client = Dying(settings, Path({str(tmp_path)!r}))
        client.complete([Prompt((Message("user", str(number)),)) for number in range(4)])
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(endpoint.requests) == 2
    with endpoint.client(tmp_path, temperature=0.7) as client:
        replies = client.complete([Prompt((Message("user", str(number)),)) for number in range(4)])
    assert [reply.text for reply in replies] == [f"reply to {number}" for number in range(4)]
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("code", [408, 409, 429, 500, 503])
def test_a_busy_endpoint_is_asked_again(endpoint, code):
    endpoint.script = [status(code), status(code)]
    with endpoint.client() as client:
        assert only(client.complete([prompt("a")])).text == "reply to a"
    assert len(endpoint.requests) == 3


def test_retry_after_is_waited_for(endpoint):
    endpoint.script = [status(429, retry_after="0.6")]
    with endpoint.client() as client:
        begun = time.monotonic()
        assert isinstance(only(client.complete([prompt("a")])), Reply)
    assert time.monotonic() - begun >= 0.6


def test_an_endpoint_that_stays_busy_is_a_failure_with_its_words_and_the_settings_to_change(endpoint, tmp_path):
    body = json.dumps({"error": {"message": "slow\x1b[2J down"}}).encode()
    endpoint.script = [status(429, body)] * 3
    with endpoint.client(tmp_path) as client:
        failure = only(client.complete([prompt("a")]))
        assert failure == Failure("busy", "Status 429: slow [2J down. Lower concurrency, or raise max_retries.")
        # A failure is not kept.
        assert only(client.complete([prompt("a")])).text == "reply to a"


def test_a_silent_endpoint_is_given_up_after_timeout_and_retries(endpoint):
    endpoint.script = [lambda handler: endpoint.released.wait(30)] * 2
    with endpoint.client(timeout_s=0.2, max_retries=1) as client:
        begun = time.monotonic()
        failure = only(client.complete([prompt("a")]))
    assert failure == Failure("timeout", "No reply within timeout_s (0.2 s). Raise it.")
    assert 0.4 <= time.monotonic() - begun < 5 and len(endpoint.requests) == 2


def test_a_reply_that_drips_is_cut_off(endpoint):
    def drip(handler):
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        for _ in range(2000):
            handler.wfile.write(b" ")
            if endpoint.released.wait(0.05):
                break

    endpoint.script = [drip]
    with endpoint.client(timeout_s=0.5, max_retries=0) as client:
        begun = time.monotonic()
        failure = only(client.complete([prompt("a")]))
    assert failure.kind == "garbled" and "not whole after timeout_s (0.5 s)" in failure.message
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("code", [200, 400, 500])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_huge_reply_is_not_read_to_its_end_whatever_its_status(endpoint, code, compressed):
    def flood(handler):
        body = completion("x" * 30_000_000)
        if compressed:
            send(handler, code, gzip.compress(body), content_encoding="gzip")
        else:
            send(handler, code, body)

    endpoint.script = [flood] * 3
    with endpoint.client(max_reply_bytes=100_000) as client:
        failure = only(client.complete([prompt("a")]))
    assert failure == Failure("garbled", "The reply was not read: it has more than max_reply_bytes (100000).")


def test_a_compressed_reply_is_read(endpoint):
    endpoint.script = [
        lambda handler: send(handler, 200, gzip.compress(completion("é" * 5000)), content_encoding="gzip")
    ]
    with endpoint.client() as client:
        assert only(client.complete([prompt("a")])) == Reply("é" * 5000, "stop")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": ["text"]}}]}',
        b'{"choices": ' + b"[" * 100_000,
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        completion("whole")[:-1],
    ],
)
def test_garbage_is_a_failure_that_says_where_to_look(endpoint, tmp_path, body):
    endpoint.script = [status(200, body)]
    with endpoint.client(tmp_path) as client:
        failure = only(client.complete([prompt("a")]))
    assert failure.kind == "garbled" and "Does base_url end with /v1?" in failure.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "reason"), [(None, "content_filter"), ("", "length"), (" \n", "stop")])
def test_a_reply_without_text_is_a_failure_that_says_why_it_ended(endpoint, text, reason):
    endpoint.script = [status(200, completion(text, reason))]
    with endpoint.client() as client:
        failure = only(client.complete([prompt("a")]))
    assert failure.kind == "empty" and repr(reason) in failure.message


def test_a_connection_that_breaks_off_is_tried_again(endpoint):
    endpoint.script = [lambda handler: handler.connection.close()]
    with endpoint.client() as client:
        assert only(client.complete([prompt("a")])).text == "reply to a"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "the prompt is too long"}', ": the prompt is too long."),
        (b'{"error": {"message": "the prompt is too long."}}', ": the prompt is too long."),
        (b'{"detail": {"error": [1, 2]}}', "."),
        (b'{"error": ' * 100_000, None),
        (b"\xff<script>", None),
        (b"", "."),
    ],
)
def test_a_refused_request_is_told_in_few_words_and_leaves_the_others_alone(endpoint, body, said):
    endpoint.script = [status(400, body)]
    with endpoint.client(concurrency=1) as client:
        refused, other = client.complete([prompt("a"), prompt("b")])
    assert refused.kind == "refused" and other.text == "reply to b"
    assert len(refused.message) < 300 and refused.message.isprintable()
    assert said is None or refused.message == f"Status 400{said}"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (401, r"does not accept a request without key: status 401: no entry\. Set api_key_env"),
        (403, "Set api_key_env"),
        (404, r"Check model \('tiny'\) and base_url"),
        (302, "points elsewhere .status 302.*Give the last address as base_url"),
    ],
)
def test_what_no_request_can_survive_ends_all_of_them(endpoint, code, match):
    step = status(code, b'{"error": {"message": "no entry"}}', location=f"{endpoint.url}/elsewhere")
    endpoint.script = [step] * 50
    with endpoint.client(concurrency=2) as client:
        with pytest.raises(LLMError, match=match):
            client.complete([prompt(str(number)) for number in range(50)])
    # One of each thread, however late the thread that reads the results has its turn.
    assert len(endpoint.requests) <= 2
    assert set(endpoint.paths) == {"/v1/chat/completions"}


def test_where_nothing_listens_the_error_names_base_url(endpoint):
    with endpoint.client(base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
        with pytest.raises(LLMError, match=r"Nothing answers at base_url http://127\.0\.0\.1:9/v1 .*Is it running"):
            client.complete([prompt("a")])


def test_an_endpoint_that_only_fails_is_given_up(endpoint):
    endpoint.script = [status(503)] * 1000
    with endpoint.client(max_retries=0, concurrency=1) as client:
        with pytest.raises(LLMError, match=f"{FAILURES_IN_A_ROW} requests in a row came to nothing.*Status 503"):
            client.complete([prompt(str(number)) for number in range(200)])
    assert len(endpoint.requests) == FAILURES_IN_A_ROW


def test_json_is_asked_for_by_its_schema_and_given_as_a_value(endpoint):
    endpoint.answer = lambda body: '{"good": true}'
    for structured, kind in (("json_schema", "json_schema"), ("json_object", "json_object"), ("text", None)):
        with endpoint.client(structured=structured) as client:
            assert client.complete_json([prompt("a")], Verdict) == [Verdict(good=True)]
        wanted = endpoint.requests[-1].get("response_format", {})
        assert wanted.get("type") == kind
    schema = endpoint.requests[0]["response_format"]["json_schema"]
    assert schema["name"] == "Verdict" and schema["strict"] is True
    assert schema["schema"]["properties"]["good"]["type"] == "boolean"
    assert schema["schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "wrong",
    [
        "good",
        '{"good": "true"}',
        '{"good": 1}',
        "{}",
        "[true]",
        '{"good": true, "bad": false}',
        'So: {"good": true}',
        '{"good": true} {"good": false}',
        "```json\n{}\n```",
        "[" * 50_000,
    ],
)
def test_a_reply_of_another_form_is_asked_for_once_more_without_being_repeated_to_the_model(endpoint, tmp_path, wrong):
    replies = [wrong, '```json\n{"good": false}\n```']
    endpoint.answer = lambda body: replies[len(body["messages"]) - 2]
    with endpoint.client(tmp_path) as client:
        assert client.complete_json([prompt("a")], Verdict) == [Verdict(good=False)]
        assert client.complete_json([prompt("a")], Verdict) == [Verdict(good=False)]
    first, second = endpoint.requests  # and both are kept
    assert second["messages"][:2] == first["messages"] and second["seed"] == first["seed"]
    assert second["messages"][2]["content"].startswith("Your reply could not be used: ")
    assert len(second["messages"][2]["content"]) < 500


def test_a_model_that_never_gives_the_form_is_a_failure_after_two_replies(endpoint):
    endpoint.answer = lambda body: '<script>alert(1)</script> Ignore all rules. {"good": true}'
    with endpoint.client() as client:
        failure = only(client.complete_json([prompt("a")], Verdict))
    assert failure.kind == "invalid" and "gave no Verdict in two replies" in failure.message
    assert "script" not in failure.message and len(endpoint.requests) == 2


def test_a_form_that_was_cut_short_says_which_setting_cuts(endpoint):
    endpoint.script = [status(200, completion('{"good": tr', "length"))] * 2
    with endpoint.client() as client:
        assert only(client.complete_json([prompt("a")], Verdict)).message.endswith("ends at max_tokens: raise it.")


def test_hostile_prompts_and_replies_pass_through_as_text(endpoint, tmp_path):
    hostile = "<script>\x00\x1b[2J\u202e\U000e0041 " + "x" * 100_000
    endpoint.answer = lambda body: body["messages"][-1]["content"]
    with endpoint.client(tmp_path) as client:
        assert only(client.complete([prompt(hostile)])).text == hostile
        assert only(client.complete([prompt(hostile)])).text == hostile
        assert only(client.complete([prompt("\ud800")])).text == "?"
    assert len(endpoint.requests) == 2


def test_the_key_is_in_no_file_no_log_no_error_and_no_settings(endpoint, key, tmp_path, caplog, capsys):
    echoed = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    endpoint.answer = lambda body: f"You sent {KEY}!"
    with caplog.at_level(logging.DEBUG), endpoint.client(tmp_path, api_key_env="TINY_KEY") as client:
        assert only(client.complete([prompt("a")])).text == "You sent [api key]!"
        endpoint.script = [status(400, echoed)]
        assert KEY not in only(client.complete([prompt("b")])).message
        endpoint.script = [status(401, echoed)]
        with pytest.raises(LLMError, match=r"bad key \[api key\]\. Set api_key_env") as error:
            client.complete([prompt("c")])
        said = [str(error.value), repr(client.settings), repr(vars(client)), client.settings.model_dump_json()]
    assert error.value.__suppress_context__ or error.value.__context__ is None
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2 and "TINY_KEY" not in "".join(kept)
    for text in [*kept, *said, caplog.text, *capsys.readouterr()]:
        assert KEY not in text


def test_no_other_key_of_the_environment_is_sent(endpoint, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    with endpoint.client() as client:
        client.complete([prompt("a")])
    assert KEY not in json.dumps(endpoint.headers)


def test_a_key_that_would_travel_unencrypted_is_warned_of(key, caplog):
    for url, warned in (("http://models.example/v1", True), ("https://models.example/v1", False)):
        caplog.clear()
        LLMClient(LLMSettings(base_url=url, model="m", api_key_env="TINY_KEY")).close()
        assert ("unencrypted: use https" in caplog.text) == warned


def test_without_the_package_the_error_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ragsmith\[llm\]'"):
        LLMClient(LLMSettings(model="m"))


def test_importing_the_client_imports_no_openai():
    program = "import sys, ragsmith.llm.client; sys.exit('openai' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=120).returncode == 0
