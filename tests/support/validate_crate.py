"""Validate an RO-Crate with roc-validator, without a network: `validate_crate.py CRATE`.

Runs in the environment .venv-crate. The validator fetches the JSON-LD context that a crate names;
here it gets the copy of RO-Crate 1.1's that the package `rocrate` brought up to version 0.14.
Prints the issues found as JSON: a list of severity, check and message.
"""

import json
import sys
from importlib.resources import files

import requests
from rocrate_validator import services
from rocrate_validator.models import Severity
from rocrate_validator.utils.http import HttpRequester

URL = "https://w3id.org/ro/crate/1.1/context"
CONTEXT = (files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()
assert json.loads(CONTEXT)["@id"] == URL


def fetched(self: HttpRequester, url: str, **_: object) -> requests.Response:
    """The context at its URL, and nothing else."""
    assert url == URL, f"the validator wants {url}, which is not at hand"
    response = requests.Response()
    response.status_code, response.url, response._content = 200, url, CONTEXT
    response.headers["Content-Type"] = "application/ld+json"
    return response


if __name__ == "__main__":
    HttpRequester.get = fetched
    result = services.validate(
        {
            "rocrate_uri": sys.argv[1],
            "profile_identifier": "provenance-run-crate",
            "requirement_severity": Severity.RECOMMENDED,
            "skip_availability_check": True,
        }
    )
    issues = [
        {
            "severity": issue.severity.name,
            "check": issue.check.identifier,
            "message": f"{issue.message} [{issue.violatingEntity}]",
        }
        for issue in result.get_issues()
    ]
    json.dump(issues, sys.stdout, indent=1)
