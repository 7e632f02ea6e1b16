"""axe-core in a page: what of it people with a screen reader, or without a mouse, cannot use."""

from __future__ import annotations

from typing import Any

from headless import Browser
from workflow_project import ROOT

#: Installed by `make axe-env` from npm's lock file; no part of Grace.
AXE = ROOT / ".venv-axe/node_modules/axe-core/axe.min.js"


def violations(found: Browser) -> list[tuple[str, str, list[str]]]:
    """Rules that an open page breaks seriously or critically: id, help, the first elements."""
    # Compiled outside the page's policy, as an extension's script is.
    world = found.call("Page.createIsolatedWorld", frameId=_frame(found))["executionContextId"]
    _in(found, world, AXE.read_text(encoding="utf-8") + "; undefined")
    broken = _in(
        found,
        world,
        "axe.run(document, {resultTypes: ['violations'], preload: false}).then((r) =>"
        " r.violations.filter((v) => ['serious', 'critical'].includes(v.impact))"
        ".map((v) => [v.id, v.help,"
        " v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + ' ' + n.failureSummary)]))",
    )
    return [(rule, words, nodes) for rule, words, nodes in broken]


def _frame(found: Browser) -> str:
    frame: str = found.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
    return frame


def _in(found: Browser, world: int, expression: str) -> Any:
    result = found.call(
        "Runtime.evaluate",
        expression=expression,
        contextId=world,
        awaitPromise=True,
        returnByValue=True,
    )
    assert "exceptionDetails" not in result, result["exceptionDetails"]
    return result["result"].get("value")
