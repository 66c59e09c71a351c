"""What MkDocs calls while it builds: formulas become MathML, which browsers draw without a script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<kind>[(\[])(?P<formula>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_content(content: str, **others: Any) -> str:
    """Return a page's HTML with its formulas drawn.

    Args:
        content: its HTML, in which formulas are marked by pymdownx.arithmatex.
        others: what else MkDocs tells.
    """
    return _FORMULA.sub(_drawn, content)


def _drawn(found: re.Match[str]) -> str:
    display = "block" if found["kind"] == "[" else "inline"
    return str(convert(html.unescape(found["formula"]), display=display))
