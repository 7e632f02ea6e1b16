"""The committed schemas are those of the code, and they accept what Grace ships."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from grace import schemas
from grace.cluster.settings import Cluster, Gpu, Policy, Volume
from grace.settings.config import Config, ModelEntry, PlacementEntry

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
    "model", [Config, ModelEntry, PlacementEntry, Cluster, Gpu, Policy, Volume]
)
def test_every_key_is_explained(model):
    page = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert [key for key in model.model_fields if not re.search(rf"[`.]{key}\b", page)] == []


def test_a_mistyped_key_is_not():
    with pytest.raises(jsonschema.ValidationError, match="modles"):
        jsonschema.validate({"modles": ["pico"]}, schemas.schema("config"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/*/study.yaml")), ids=str)
def test_the_bundled_studies_are_valid(path):
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(declared, schemas.schema("study"))
    with pytest.raises(jsonschema.ValidationError, match="stimulus"):
        jsonschema.validate({**declared, "stimulus": "x"}, schemas.schema("study"))
