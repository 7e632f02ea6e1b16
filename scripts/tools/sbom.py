"""List what Grace consists of here, as CycloneDX: `make sbom`.

One file for each environment, `sbom/<environment>.cdx.json`: the Python packages installed there,
with licences and what needs what; with the main one, R's packages. Runs in .venv-sbom.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]
#: Environments in the project's folder, by the names of their files; the first has R beside it.
ENVIRONMENTS = {"main": ".venv", "serve": ".venv-serve"}
VERSION = "1.6"
INSTALLED = (
    'found <- installed.packages()[, c("Package", "Version", "License")];'
    'found <- rbind(found, c("R", as.character(getRversion()), "GPL-2 | GPL-3"));'
    "write.csv(found, row.names = FALSE)"
)


def python_packages(environment: Path, project: Path) -> dict[str, Any]:
    """The packages of a virtual environment, as a whole document on the project."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "environment"]
    command += [str(environment), "--pyproject", str(project), "--output-reproducible"]
    done = subprocess.run(
        [*command, "--spec-version", VERSION], stdout=subprocess.PIPE, text=True, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def r_packages(listed: str) -> Iterator[dict[str, Any]]:
    """R and its packages, as components, from what `INSTALLED` prints; each of them once."""
    seen = set()
    for row in csv.DictReader(io.StringIO(listed)):
        kind = "generic" if row["Package"] == "R" else "cran"
        url = f"pkg:{kind}/{row['Package']}@{row['Version']}"
        if url in seen:  # in several libraries
            continue
        seen.add(url)
        yield {
            "type": "platform" if row["Package"] == "R" else "library",
            "bom-ref": url,
            "name": row["Package"],
            "version": row["Version"],
            "purl": url,
            "licenses": [{"license": {"name": row["License"]}}],
        }


def add(document: dict[str, Any], components: list[dict[str, Any]]) -> None:
    """Put components that the project itself needs into a document."""
    document["components"] += components
    project = document["metadata"]["component"]["bom-ref"]
    (needs,) = (one for one in document["dependencies"] if one["ref"] == project)
    references = [one["bom-ref"] for one in components]
    needs["dependsOn"] = sorted({*needs.get("dependsOn", []), *references})
    document["dependencies"] += [{"ref": reference} for reference in references]


def check(text: str) -> None:
    """Exit where a text is not what CycloneDX's schema says."""
    fault = JsonStrictValidator(SchemaVersion.from_version(VERSION)).validate_str(text)
    if fault:
        sys.exit(f"this is not CycloneDX {VERSION}, please report it: {fault}")


def main() -> None:
    """Write a file for every environment that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the environments")
    parser.add_argument("--output", type=Path, default=ROOT / "sbom", metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, folder in ENVIRONMENTS.items():
        environment = options.root / folder
        if not (environment / "bin" / "python").exists():
            print(f"{folder} is not there: nothing on it")
            continue
        document = python_packages(environment, ROOT / "pyproject.toml")
        if name == "main":
            r = ["Rscript", "--vanilla", "-e", INSTALLED]
            listed = subprocess.run(r, stdout=subprocess.PIPE, text=True, check=True).stdout
            add(document, list(r_packages(listed)))
        text = json.dumps(document, indent=1, sort_keys=True)
        check(text)
        target = options.output / f"{name}.cdx.json"
        target.write_text(f"{text}\n", encoding="utf-8")
        print(f"{target}: {len(document['components'])} components")


if __name__ == "__main__":
    main()
