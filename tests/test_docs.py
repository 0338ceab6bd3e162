"""What the documents show is what happens: every Python block and every docstring example runs."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import nashquant

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Importing horizon is what changes the process; `python -m` runs __main__.
NOT_FOR_IMPORT = {"nashquant.compat.horizon", "nashquant.__main__"}
MODULES = sorted(
    {"nashquant"} | {found.name for found in pkgutil.walk_packages(nashquant.__path__, "nashquant.")} - NOT_FOR_IMPORT
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_on_this_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(page.parent)).parse(page)
    for example in document.examples():
        example.evaluate()


def test_the_pages_have_code_to_run() -> None:
    sybil = Sybil(parsers=[PythonCodeBlockParser()], path=str(ROOT))
    assert len(list(sybil.parse(ROOT / "README.md").examples())) >= 1
    assert len(list(sybil.parse(ROOT / "docs" / "migrate.md").examples())) >= 3


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_hold(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_links_between_the_pages_lead_somewhere() -> None:
    import re

    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert os.path.exists(page.parent / target), f"{page.name} links to {target}"
