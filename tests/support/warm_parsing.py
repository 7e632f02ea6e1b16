"""What forks of warm_python.py need not parse again: rules of the workflow, settings as bundled.

Both take two fifths of a dry-run. What is known is found by its whole text; any other is parsed.
"""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake import parser, workflow

PATH = "\0path\0"


def know_settings(root: Path) -> None:
    """Parse a project's settings; to be called before other modules import the reader."""
    from grace.settings import yaml_reader

    parse: Callable[[str, str], Any] = yaml_reader.parse_yaml
    known: dict[str, Any] = {}
    for path in (*(root / "config").glob("*.yaml"), *(root / "studies").glob("*/study.yaml")):
        known[yaml_reader.read_text(path)] = yaml_reader.read_yaml(path)

    def parse_yaml(text: str, source: str) -> Any:
        return copy.deepcopy(known[text]) if text in known else parse(text, source)

    yaml_reader.parse_yaml = parse_yaml


def keep_rules(folder: Path) -> None:
    """Have Snakemake keep in a folder what it made of files of rules, but for their places."""

    def parse(
        path: Any,
        run: Any,
        linemap: dict[int, int],
        overwrite_shellcmd: str | None = None,
        rulecount: int = 0,
    ) -> tuple[str, int]:
        place = repr(path.get_path_or_uri(secret_free=True))
        with run.sourcecache.open(path) as file:
            asked = repr((file.read(), overwrite_shellcmd, rulecount))
        kept = folder / hashlib.sha256(asked.encode()).hexdigest()
        if kept.exists():
            code, lines, count = pickle.loads(kept.read_bytes())
            linemap |= lines
            return code.replace(PATH, place), count
        code, count = parser.parse(path, run, linemap, overwrite_shellcmd, rulecount)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_bytes(pickle.dumps((code.replace(place, PATH), linemap, count)))
        partial.replace(kept)
        return code, count

    workflow.parse = parse
