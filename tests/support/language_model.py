"""A language model's endpoint on this machine: a real HTTP server that says what each test has it say."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ragsmith.llm.client import LLMClient
from ragsmith.llm.settings import LLMSettings

Handler = BaseHTTPRequestHandler
Answer = Callable[[dict[str, Any]], str]


class Endpoint:
    """What the server was asked, and what it does next.

    Attributes:
        requests: body of each request, in order of arrival.
        headers: of each request.
        script: called for each request, one after the other, to write something else than a reply; then `answer`.
        answer: text of the reply to a request's body.
        most_at_once: requests that were open together.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.script: list[Callable[[Handler], None]] = []
        self.answer: Answer = lambda body: f"reply to {body['messages'][-1]['content']}"
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.open = self.most_at_once = 0
        endpoint = self

        class Conversation(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with endpoint.lock:
                    endpoint.requests.append(body)
                    endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
                    endpoint.paths.append(self.path)
                    endpoint.open += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.open)
                    step = endpoint.script.pop(0) if endpoint.script else None
                try:
                    if step is None:
                        send(self, 200, completion(endpoint.answer(body)))
                    else:
                        step(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has had enough
                finally:
                    with endpoint.lock:
                        endpoint.open -= 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Conversation)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def client(self, cache: Any = None, **settings: Any) -> LLMClient:
        values = {"base_url": self.url, "model": "tiny", "timeout_s": 5, "max_retries": 2, **settings}
        return LLMClient(LLMSettings(**values), cache)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def completion(text: str | None, finish_reason: str = "stop") -> bytes:
    """The body of a reply."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    values = {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}
    return json.dumps(values).encode()


def send(handler: Handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, body: bytes = b"{}", **headers: str) -> Callable[[Handler], None]:
    """A step of the script: this status, body and headers."""
    return lambda handler: send(handler, code, body, **headers)
