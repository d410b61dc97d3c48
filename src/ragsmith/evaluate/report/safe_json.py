"""JSON that may stand in a page."""

import json
from typing import Any


def safe_json(value: Any) -> str:
    r"""JSON that may stand in a script element: it cannot end the element, or open a comment in it.

    >>> safe_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
