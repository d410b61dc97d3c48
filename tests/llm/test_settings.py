import pytest
from pydantic import ValidationError

from ragsmith.llm.settings import LLMError, LLMSettings

KEY = "sk-0123456789-very-secret"


def test_by_default_nothing_leaves_this_machine_and_no_key_is_looked_for():
    settings = LLMSettings(model="m")
    assert settings.base_url == "http://localhost:11434/v1"
    assert settings.api_key().get_secret_value() == ""


def test_a_trailing_slash_makes_no_other_endpoint():
    assert LLMSettings(model="m", base_url="https://x.example/v1/").base_url == "https://x.example/v1"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"api_key_env": KEY}, "give the NAME of an environment variable"),
        ({"api_key_env": "sk_0123"}, "give the NAME of an environment variable"),
        ({"base_url": f"https://me:{KEY}@x.example/v1"}, "a key belongs in the variable of api_key_env"),
        ({"base_url": f"https://x.example/v1?key={KEY}"}, "a key belongs in the variable of api_key_env"),
        ({"base_url": f"https://x.example/v1#{KEY}"}, "a key belongs in the variable of api_key_env"),
        ({"base_url": "file:///etc/passwd"}, "give http:// or https:// and a host"),
        ({"base_url": "localhost:11434"}, "give http:// or https:// and a host"),
        ({"base_url": ""}, "give http:// or https:// and a host"),
        ({"api_key": KEY}, "api_key\n.*not permitted"),
        ({"model": ""}, "model\n.*at least 1"),
        ({"temperature": float("nan")}, "temperature\n"),
        ({"timeout_s": 0}, "timeout_s\n"),
        ({"concurrency": 0}, "concurrency\n"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_showing_it(values, match):
    with pytest.raises(ValidationError, match=match) as error:
        LLMSettings(**{"model": "m", **values})
    assert "0123" not in str(error.value)


def test_a_variable_that_is_not_set_is_named_with_the_setting(monkeypatch):
    settings = LLMSettings(model="m", api_key_env="TINY_KEY")
    for value in (None, "", "  "):
        monkeypatch.delenv("TINY_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("TINY_KEY", value)
        with pytest.raises(LLMError, match="TINY_KEY, which api_key_env names, is not set"):
            settings.api_key()


def test_white_space_around_a_key_is_taken_off_and_other_is_refused_without_showing_it(monkeypatch):
    settings = LLMSettings(model="m", api_key_env="TINY_KEY")
    monkeypatch.setenv("TINY_KEY", f" {KEY}\n")
    assert settings.api_key().get_secret_value() == KEY
    for value in (f"{KEY}\nX-Other: 1", f"{KEY} {KEY}", f"{KEY}é"):
        monkeypatch.setenv("TINY_KEY", value)
        with pytest.raises(LLMError, match="What TINY_KEY holds is no key") as error:
            settings.api_key()
        assert "0123" not in str(error.value)
