"""Ask a language model many things at once, and pay for each answer once."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from ragsmith.compute.progress import progress
from ragsmith.llm.bounded import ReplyRefused, bounded_http_client
from ragsmith.llm.cache import ReplyCache
from ragsmith.llm.messages import Failure, Message, Prompt, Reply, printable, said_by
from ragsmith.llm.settings import LLMError, LLMSettings
from ragsmith.llm.structured import ASK_AGAIN, Form, InvalidReply, parse, response_format

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

INSTALL = "Asking a language model needs the package openai. Run: pip install 'ragsmith[llm]'"
# So many in a row without a reply and the endpoint is taken as down: retries of the rest could take days.
FAILURES_IN_A_ROW = 10
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Written(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Written
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class LLMClient:
    """Replies of a language model behind an OpenAI-compatible endpoint.

    Requests run a few at once; the `openai` package tries again after 408, 409, 429, 5xx and silence, with growing
    waits or as long as Retry-After says (at most two minutes). A reply is bounded in size and time, kept by
    all that decides it, and taken for nothing but text. The key reaches the endpoint and no other place: where a
    reply repeats it, it is struck out.

    Args:
        settings: see `LLMSettings`.
        cache: folder in which replies are kept; None keeps none.
    Raises:
        ModuleNotFoundError: `openai` is not installed; the message has the command.
        LLMError: the variable that `api_key_env` names is not set.
    """

    def __init__(self, settings: LLMSettings, cache: Path | None = None) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(INSTALL) from error
        self.settings = settings
        self._cache = ReplyCache(cache)
        self._key = settings.api_key()
        url = urlsplit(settings.base_url)
        if self._key.get_secret_value() and url.scheme == "http" and url.hostname not in LOOPBACK:
            logger.warning("The key in %s goes to %s unencrypted: use https.", settings.api_key_env, settings.base_url)
        self._http = bounded_http_client(settings.timeout_s, settings.max_reply_bytes)
        self._openai = openai.OpenAI(
            # Never None: the package would send the person's OPENAI_API_KEY to whatever server this is.
            api_key=self._key.get_secret_value() or "none",
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            max_retries=settings.max_retries,
            http_client=self._http,
        )
        # From the environment too, and of no concern to another endpoint.
        self._openai.organization = self._openai.project = None

    def __enter__(self) -> "LLMClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._openai.close()

    def complete(self, prompts: Sequence[Prompt], label: str = "") -> list[Reply | Failure]:
        """Continue each conversation.

        Args:
            prompts: any number; equal ones are asked once.
            label: name of the progress bar; empty shows none.
        Returns:
            a Reply or a Failure for each prompt, in their order. Failures are not kept: the next run asks again.
        Raises:
            LLMError: the endpoint is not there, does not know the key, the address or the model, or gave no reply ten
                times in a row. What was replied until then is in the cache.
        """
        return self._each(prompts, lambda prompt: self._reply(prompt, None), label)

    def complete_json(self, prompts: Sequence[Prompt], form: type[Form], label: str = "") -> list[Form | Failure]:
        """Continue each conversation with JSON; a reply that is something else is asked for once more.

        Args:
            prompts: they should describe the form too: an endpoint may ignore `structured`.
            form: a pydantic model that forbids extra fields.
            label: name of the progress bar; empty shows none.
        Returns:
            a value of that form, or a Failure, for each prompt, in their order.
        Raises:
            LLMError: as `complete`.
        """
        return self._each(prompts, lambda prompt: self._value(prompt, form), label)

    def _each(
        self, prompts: Sequence[Prompt], ask: Callable[[Prompt], Result | Failure], label: str
    ) -> list[Result | Failure]:
        """`ask` for each different prompt, in threads; the first LLMError ends it."""
        fatal: list[LLMError] = []
        in_a_row = 0
        lock = threading.Lock()

        def unless_over(prompt: Prompt) -> Result | Failure:
            # Seen to here, and not where results are read: until that thread has its turn, these would go on asking.
            nonlocal in_a_row
            if fatal:
                raise fatal[0]
            try:
                result = ask(prompt)
                down = isinstance(result, Failure) and result.kind in {"busy", "timeout"}
                with lock:
                    in_a_row = in_a_row + 1 if down else 0
                    if isinstance(result, Failure) and in_a_row == FAILURES_IN_A_ROW:
                        raise LLMError(f"{in_a_row} requests in a row came to nothing, the last so: {result.message}")
            except LLMError as error:
                fatal.append(error)
                raise
            return result

        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="llm")
        try:
            asked: dict[Prompt, Future[Result | Failure]] = {}
            for prompt in prompts:
                if prompt not in asked:
                    asked[prompt] = pool.submit(unless_over, prompt)
            with progress(label, total=len(asked)) as advance:
                for done in as_completed(asked.values()):
                    done.result()
                    advance(1)
            return [asked[prompt].result() for prompt in prompts]
        finally:
            pool.shutdown(cancel_futures=True)

    def _value(self, prompt: Prompt, form: type[Form]) -> Form | Failure:
        wanted = response_format(form, self.settings.structured)
        for last in (False, True):
            reply = self._reply(prompt, wanted)
            if isinstance(reply, Failure):
                return reply
            try:
                return parse(reply.text, form)
            except InvalidReply as invalid:
                fault = str(invalid)
                cut = " It ends at max_tokens: raise it." if reply.finish_reason == "length" else ""
                if last:
                    break
                # Without the reply itself, which may hold instructions that the model found in what it read.
                again = Message("user", ASK_AGAIN.format(fault=fault))
                prompt = Prompt((*prompt.messages, again), prompt.repeat)
        return Failure("invalid", f"The model gave no {form.__name__} in two replies: {fault}.{cut}")

    def _reply(self, prompt: Prompt, wanted: dict[str, Any] | None) -> Reply | Failure:
        settings = self.settings
        request: dict[str, Any] = {
            "model": settings.model,
            "messages": [message.to_json() for message in prompt.messages],
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "seed": settings.seed + prompt.repeat,
        }
        if wanted is not None:
            request["response_format"] = wanted
        identity = {"base_url": settings.base_url, "repeat": prompt.repeat, **request}
        reply: Reply | Failure | None = self._cache.get(identity)
        if reply is None:
            reply = self._ask(request)
            if isinstance(reply, Reply):
                self._cache.put(identity, reply)
        return reply

    def _ask(self, request: dict[str, Any]) -> Reply | Failure:
        """One request with its retries. No error is chained: the package's hold the endpoint's words, unbounded."""
        import openai

        settings = self.settings
        try:
            raw = self._openai.chat.completions.with_raw_response.create(**request)
            return self._read(raw.content)
        except openai.APIStatusError as error:
            status, said = error.status_code, self._struck(said_by(error.body))
        except openai.APITimeoutError:
            return Failure("timeout", f"No reply within timeout_s ({settings.timeout_s:g} s). Raise it.")
        except ReplyRefused as error:
            return Failure("garbled", f"The reply was not read: {error}.")
        except openai.APIConnectionError as error:
            # Before its version 3, the package tried again after any exception, and then hid it in this one.
            if isinstance(error.__cause__, ReplyRefused):
                return Failure("garbled", f"The reply was not read: {error.__cause__}.")
            why = printable(repr(error.__cause__))
            raise LLMError(f"Nothing answers at base_url {settings.base_url} ({why}). Is it running?") from None
        return self._failure(status, f": {said.rstrip('.')}." if said else ".")

    def _failure(self, status: int, said: str) -> Failure:
        settings = self.settings
        if status in {401, 403}:
            what = f"what {settings.api_key_env} holds" if settings.api_key_env else "a request without key"
            raise LLMError(
                f"{settings.base_url} does not accept {what}: status {status}{said} Set api_key_env to the name of "
                f"the environment variable with its key."
            )
        if status == 404:
            raise LLMError(
                f"{settings.base_url} knows no such model, or is no such endpoint: status 404{said} "
                f"Check model ({printable(settings.model)!r}) and base_url, which ends with /v1 as a rule."
            )
        if 300 <= status < 400:
            raise LLMError(
                f"{settings.base_url} points elsewhere (status {status}). Give the last address as base_url."
            )
        if status in {408, 409, 429} or status >= 500:
            return Failure("busy", f"Status {status}{said} Lower concurrency, or raise max_retries.")
        return Failure("refused", f"Status {status}{said}")

    def _read(self, body: bytes) -> Reply | Failure:
        try:
            choice = _Completion.model_validate_json(body).choices[0]
        except ValidationError:
            return Failure(
                "garbled", f"What {self.settings.base_url} sent is no chat completion. Does base_url end with /v1?"
            )
        text = self._struck(choice.message.content or "")
        reason = printable(choice.finish_reason or "", 40)
        if not text.strip():
            return Failure("empty", f"The reply holds no text (finish_reason {reason!r}). Raise max_tokens?")
        return Reply(text, reason)

    def _struck(self, text: str) -> str:
        """The text without the key: an endpoint that repeats what it was sent must not bring it into a file."""
        key = self._key.get_secret_value()
        # What is shorter is a word to fill the field with, as for Ollama, and may stand in any text.
        return text.replace(key, "[api key]") if len(key) >= 8 else text
