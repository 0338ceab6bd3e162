"""The progress of a loop, with a terminal and without."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from nashquant.quantization.tuning.progress import progress


def test_without_a_terminal_there_is_a_line_at_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(list(range(25)), "counting")) == list(range(25))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert (lines[0], lines[-1]) == ("counting: 3 of 25", "counting: 25 of 25")


def test_it_can_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2], "counting", shown=False)) == [1, 2]
    assert list(progress([], "counting")) == []
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress([1, 2, 3], "counting")) == [1, 2, 3]
    told = capsys.readouterr().err
    assert "━" in told
    assert "counting" in told


def test_a_terminal_without_rich_gets_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert list(progress([1], "counting")) == [1]
    assert capsys.readouterr().err == "counting: 1 of 1\n"
