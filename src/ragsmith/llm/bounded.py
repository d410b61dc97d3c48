"""An HTTP client that reads no more of a reply, and no longer, than was agreed."""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import DefaultHttpxClient

# They describe the body as it was sent, which is by then decoded.
SENT_AS = {"content-encoding", "content-length", "transfer-encoding"}


class ReplyRefused(Exception):
    """A reply that was too large or too slow, and was not read to its end."""


def bounded_http_client(timeout_s: float, max_bytes: int) -> "DefaultHttpxClient":
    """The HTTP client of the `openai` package, with an end to every reply and without redirects.

    Its own timeout starts anew with every byte, so a server that drips would hold it for ever, and it keeps a body of
    any size. A redirect would carry the prompt to where nobody meant it to go.

    Args:
        timeout_s: seconds for one reply, errors included.
        max_bytes: of one reply, decoded: a small compressed body can be a large one.
    Returns:
        a client that raises ReplyRefused past either.
    """
    from openai import DefaultHttpxClient

    class Bounded(DefaultHttpxClient):
        def send(self, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
            begun = time.monotonic()
            response = super().send(request, stream=True, **kwargs)
            body = bytearray()
            try:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > max_bytes:
                        raise ReplyRefused(f"it has more than max_reply_bytes ({max_bytes})")
                    if time.monotonic() - begun > timeout_s:
                        raise ReplyRefused(f"it was not whole after timeout_s ({timeout_s:g} s)")
            finally:
                response.close()
            headers = [(name, value) for name, value in response.headers.multi_items() if name not in SENT_AS]
            return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)

    return Bounded(timeout=timeout_s, follow_redirects=False)
