"""JSON schemas (draft 2020-12) of what users write and of what Grace writes.

Generated from the pydantic models into workflow/schemas: `python -m grace.schemas`. A test holds
them in step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from grace import codebook_page, settings_reference, study_reference
from grace.cluster.plan.settings import Clusters
from grace.extraction.replies import answer_model
from grace.posttraining.constitution import Constitution
from grace.posttraining.instruction_bank import InstructionBank
from grace.prompts.example_bank import Bank
from grace.prompts.wording import Wording
from grace.provenance.metadata import Metadata
from grace.provenance.record import ProvenanceRecord
from grace.results.validation import Report
from grace.settings.config import DEFAULT_STUDIES, Config, Models
from grace.settings.recipes import Recipes
from grace.studies.catalogue import bundled
from grace.studies.declaration import SHORT_FORMS, Declaration

FOLDER = Path(__file__).parents[2] / "schemas"


def models() -> dict[str, type[BaseModel]]:
    """The pydantic models by the name of their schema."""
    return {
        "config": Config,
        "models": Models,
        "clusters": Clusters,
        "recipes": Recipes,
        "constitution": Constitution,
        "instruction_bank": InstructionBank,
        "study": Declaration,
        "variant": Wording,
        "example_bank": Bank,
        "metadata": Metadata,
        "validation": Report,
        "provenance_record": ProvenanceRecord,
        **{
            f"answer_{name}": answer_model(study.answer_forms({}), nullable=False)
            for name, study in bundled(FOLDER.parents[1], *DEFAULT_STUDIES).items()
        },
    }


def schema(name: str) -> dict[str, Any]:
    """One schema."""
    generated = models()[name].model_json_schema()
    if name in ("models", "clusters", "recipes"):
        # The file is the mapping itself.
        generated = {**generated["properties"][name], "$defs": generated["$defs"]}
    if name == "study":
        for definition in ("Column", "Options"):
            whole = generated["$defs"][definition]
            generated["$defs"][definition] = {"anyOf": [SHORT_FORMS[definition], whole]}
        cite = generated["properties"]["cite"]
        generated["properties"]["cite"] = {"anyOf": [SHORT_FORMS["cite"], cite]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **generated}


def text(name: str) -> str:
    """One schema as it stands in its file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all schemas, and the pages on what users write, on commands and on tables' columns."""
    study_reference.PAGE.write_text(study_reference.text(), encoding="utf-8")
    codebook_page.PAGE.write_text(codebook_page.text(), encoding="utf-8")
    for name, page in settings_reference.pages(schema).items():
        settings_reference.FOLDER.mkdir(exist_ok=True)
        (settings_reference.FOLDER / name).write_text(page, encoding="utf-8")
    for name in models():
        (FOLDER / f"{name}.schema.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
