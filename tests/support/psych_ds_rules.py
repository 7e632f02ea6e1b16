"""The errors that Psych-DS's validator reports of a dataset, by the rules of its schema (psych-ds/
psychds-validator, src/setup/defaultSchema.json, 1.x). The validator itself is in no package
registry that we use; it runs on Deno.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

DATAFILE = re.compile(r"([a-z]+-[a-zA-Z0-9]+)(_[a-z]+-[a-zA-Z0-9]+)*_data\.csv")
REQUIRED = ("name", "description", "variableMeasured")
CONTEXTS = tuple(
    f"{scheme}://{host}schema.org{end}"
    for scheme in ("http", "https") for host in ("", "www.") for end in ("", "/")
)  # fmt: skip
#: Properties that schema.org gives a Dataset or PropertyValue, of those that we use or might.
DATASET = {
    "name", "description", "variableMeasured", "schemaVersion", "keywords", "citation", "license",
    "measurementTechnique", "author", "creator", "funder", "url", "identifier", "dateCreated",
    "isBasedOn", "version",
}  # fmt: skip
PROPERTY_VALUE = {
    "name", "description", "unitText", "unitCode", "minValue", "maxValue", "value",
    "measurementTechnique", "propertyID",
}  # fmt: skip


def errors(folder: Path) -> list[str]:
    """Codes of the validator with what they are about, those of warnings of our own JSON too."""
    path = folder / "dataset_description.json"
    if not path.is_file():
        return ["MISSING_DATASET_DESCRIPTION"]
    try:
        told = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError:
        return ["INVALID_JSON_FORMATTING"]
    found = []
    if told.get("@context") not in CONTEXTS:
        found.append("INVALID_JSONLD_FORMATTING @context")
    if told.get("@type") != "Dataset":
        found.append("INCORRECT_DATASET_TYPE")
    found += [f"JSON_KEY_REQUIRED {key}" for key in REQUIRED if not told.get(key)]
    found += [f"INVALID_SCHEMAORG_PROPERTY {key}" for key in told.keys() - DATASET
              if not key.startswith("@")]  # fmt: skip
    columns = set()
    for one in told.get("variableMeasured", []):
        columns.add(one if isinstance(one, str) else one.get("name"))
        if isinstance(one, dict):
            if one.get("@type") != "PropertyValue":
                found.append(f"OBJECT_TYPE_MISSING {one}")
            unknown = one.keys() - PROPERTY_VALUE - {"@type"}
            found += [f"INVALID_SCHEMAORG_PROPERTY {key}" for key in unknown]
    data = folder / "data"
    if not data.is_dir():
        return [*found, "MISSING_DATA_DIRECTORY"]
    tables = sorted(data.rglob("*.csv"))
    if not any(DATAFILE.fullmatch(table.name) for table in tables):
        found.append("MISSING_DATAFILE")
    for table in tables:
        if not DATAFILE.fullmatch(table.name):
            found.append(f"FILENAME_KEYWORD_FORMATTING_ERROR {table.name}")
        with table.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        missing = [name for name in header if name not in columns]
        found += [f"CSV_COLUMN_MISSING_FROM_METADATA {name}" for name in missing]
        if any(len(row) != len(header) for row in rows):
            found.append(f"CSV_HEADER_LENGTH_MISMATCH {table.name}")
        if "row_id" in header:
            ids = [row[header.index("row_id")] for row in rows]
            found += ["ROWID_VALUES_NOT_UNIQUE"] * (len(set(ids)) < len(ids))
    return found
