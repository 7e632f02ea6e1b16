"""`make sbom`: what Grace consists of, as CycloneDX."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sbom" / "bin" / "python"
SCRIPT = ROOT / "scripts" / "tools" / "sbom.py"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-sbom (make sbom-env)")


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The document of a small environment in the place of .venv: that of the tool itself."""
    root = tmp_path_factory.mktemp("root")
    (root / ".venv").symlink_to(ROOT / ".venv-sbom")
    command = [PYTHON, SCRIPT, "--root", root, "--output", root / "sbom"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ".venv-serve is not there" in done.stdout
    assert [path.name for path in (root / "sbom").iterdir()] == ["main.cdx.json"]
    return json.loads((root / "sbom" / "main.cdx.json").read_text())


def test_it_is_on_the_project(document):
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "grace"


def test_it_has_every_package_of_the_lock_in_its_version(document):
    pins = re.findall(r"(?m)^([\w.-]+)==([^ ]+)", (ROOT / "envs/sbom.lock").read_text())
    found = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one for one in document["components"]}
    assert len(pins) > 20
    assert {name: found[name]["version"] for name, _ in pins} == dict(pins)


def test_it_has_r_and_its_packages_with_licences(document):
    found = {one.get("purl", "").split("@")[0]: one for one in document["components"]}
    assert "pkg:generic/R" in found
    assert found["pkg:cran/lme4"]["licenses"] == [{"license": {"name": "GPL (>= 2)"}}]


def test_every_reference_in_it_leads_to_a_component(document):
    project = document["metadata"]["component"]["bom-ref"]
    known = {project, *(one["bom-ref"] for one in document["components"])}
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert {name for names in needs.values() for name in names} | set(needs) <= known
    assert any(name.startswith("pkg:cran/") for name in needs[project])


def test_what_is_no_cyclonedx_is_refused():
    code = 'import sbom; sbom.check(\'{"bomFormat": "none"}\')'
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "this is not CycloneDX" in done.stderr
