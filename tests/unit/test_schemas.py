"""The committed schemas are those of the code, and they accept what Grace ships."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from grace import codebook_page, schemas, study_reference
from grace.cluster.plan.settings import Cluster, Gpu, Policy, Volume
from grace.settings.config import Config, ModelEntry, PlacementEntry
from grace.settings.model_facts import ModelFacts
from grace.studies.expressions import FILTERS

ROOT = Path(__file__).parents[2]


def test_every_model_has_its_schema_and_no_other_file_stands_there():
    files = {path.name.removesuffix(".schema.json") for path in schemas.FOLDER.iterdir()}
    assert files == set(schemas.models())


@pytest.mark.parametrize("name", sorted(schemas.models()))
def test_schemas_are_in_step(name):
    committed = (schemas.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    assert committed == schemas.text(name), "run `python -m grace.schemas`"


@pytest.mark.parametrize("name", ["config", "models", "clusters"])
def test_the_shipped_config_is_valid(name):
    value = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(value, schemas.schema(name))


@pytest.mark.parametrize(
    "model", [Config, ModelEntry, PlacementEntry, ModelFacts, Cluster, Gpu, Policy, Volume]
)
def test_every_key_is_explained(model):
    page = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert [key for key in model.model_fields if not re.search(rf"[`.]{key}\b", page)] == []


def test_the_page_on_study_yaml_is_in_step_and_explains_every_key():
    page = study_reference.PAGE.read_text(encoding="utf-8")
    assert page == study_reference.text(), "run `python -m grace.schemas`"
    columns = codebook_page.PAGE.read_text(encoding="utf-8")
    assert columns == codebook_page.text(), "run `python -m grace.schemas`"
    assert set(study_reference.EXPLAINED) == set(FILTERS)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.split(" | ")[-1].strip(" |") == ""] == []


def test_a_mistyped_key_is_not():
    with pytest.raises(jsonschema.ValidationError, match="modles"):
        jsonschema.validate({"modles": ["pico"]}, schemas.schema("config"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/*/study.yaml")), ids=str)
def test_the_bundled_studies_are_valid(path):
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(declared, schemas.schema("study"))
    with pytest.raises(jsonschema.ValidationError, match="stimulus"):
        jsonschema.validate({**declared, "stimulus": "x"}, schemas.schema("study"))
