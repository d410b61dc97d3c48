import pytest
from pydantic import BaseModel, ConfigDict

from ragsmith.llm.structured import InvalidReply, parse


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    good: bool
    why: str = ""


@pytest.mark.parametrize(
    "text",
    ['{"good": true}', '\n {"good":true}\n', '```json\n{"good": true}\n```', '```\n{"good": true}\n```  \n'],
)
def test_the_object_alone_or_in_one_fence_is_taken(text):
    assert parse(text, Verdict) == Verdict(good=True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('Here: {"good": true}', "Invalid JSON: expected value at line 1 column 1"),
        ('{"good": true}\n```json\n{"good": false}\n```', "trailing characters"),
        ('```json\n{"good": true}\n```\n```json\n{"good": false}\n```', "trailing characters"),
        ('{"good": "true"}', "good: Input should be a valid boolean"),
        ("{}", "good: Field required"),
        ('{"good": true, "<script>\x1b": 1}', "Invalid JSON: control character"),
        ('{"good": true, "<b>\\u001b": 1}', "Extra inputs are not permitted"),
        ("", "Invalid JSON: EOF"),
    ],
)
def test_anything_else_is_refused_in_few_printable_words(text, fault):
    with pytest.raises(InvalidReply) as error:
        parse(text, Verdict)
    assert "<b>" not in str(error.value)
    assert fault in str(error.value) and str(error.value).isprintable() and len(str(error.value)) <= 200
