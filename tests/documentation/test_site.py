"""The site builds without a warning; formulas are drawn and nothing is fetched from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs import hooks

ROOT = Path(__file__).parents[2]


def test_formulas_become_mathml() -> None:
    page = r'<p><span class="arithmatex">\(a &lt; b_k\)</span></p><div class="arithmatex">\[x^2\]</div>'
    drawn = hooks.on_page_content(page, page=None)
    assert "arithmatex" not in drawn
    assert "<mo>&#x0003C;</mo>" in drawn
    assert 'display="inline"' in drawn
    assert 'display="block"' in drawn


@pytest.mark.slow
def test_the_site_builds_strictly_and_stands_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', text), page
    api = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("train", "compare", "make", "impression_metrics", "auc"):
        assert re.search(rf'id="counterpoint\.[\w.]*\b{name}"', api), name
