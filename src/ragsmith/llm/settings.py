"""Where a language model answers, and how it is asked."""

import os
import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

# The upper case is a guard: a key that is written here by mistake has small letters or hyphens, and is refused.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*\Z")


class LLMError(RuntimeError):
    """The endpoint cannot be used: no request will be answered until a setting is changed."""


class LLMSettings(BaseModel):
    """An OpenAI-compatible endpoint (Ollama, vLLM, llama.cpp, hosted ones) and what is asked of it.

    It holds no key, only the name of the variable that does, so it can be written down anywhere. Errors do not show
    the values that were given: one of them may be a key in the wrong place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str = Field(
        "http://localhost:11434/v1", description="of the endpoint, up to and with /v1; by default Ollama's, here"
    )
    model: str = Field(min_length=1, max_length=200, description="as the endpoint names it")
    api_key_env: str = Field(
        "", description="NAME of the environment variable with the key; empty where the endpoint asks for none"
    )
    timeout_s: float = Field(120, gt=0, le=3600, description="seconds for one reply, whole")
    max_retries: int = Field(5, ge=0, le=20, description="more tries after 408, 409, 429, 5xx or silence")
    seed: int = Field(0, ge=0, le=2**31 - 1_000_000, description="sent with every request; each repeat adds one")
    temperature: float = Field(0.7, ge=0, le=2, description="at 0 the seed makes no difference, and repeats are alike")
    max_tokens: int = Field(512, ge=1, le=1_000_000, description="of one reply")
    max_reply_bytes: int = Field(1_000_000, ge=1000, le=100_000_000, description="a larger reply is not read")
    concurrency: int = Field(4, ge=1, le=64, description="requests at once")
    structured: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema", description="how JSON is asked for: by its schema, as any object, or in the prompt alone"
    )

    @field_validator("base_url")
    @classmethod
    def _is_plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("give http:// or https:// and a host, such as http://localhost:11434/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("leave out what is before @ and after ?: a key belongs in the variable of api_key_env")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if name and not VARIABLE.match(name):
            raise ValueError(
                "give the NAME of an environment variable, in capitals, such as OPENAI_API_KEY, and never the key"
            )
        return name

    def api_key(self) -> SecretStr:
        """The key, read from the environment now; empty where none is asked for.

        Raises:
            LLMError: the variable is not set, or holds what no header can.
        """
        if not self.api_key_env:
            return SecretStr("")
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise LLMError(
                f"The environment variable {self.api_key_env}, which api_key_env names, is not set. Set it to the key "
                f"of {self.base_url}, or set api_key_env to '' if that endpoint asks for none."
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise LLMError(f"What {self.api_key_env} holds is no key: it has spaces or characters that no key has.")
        return SecretStr(key)
