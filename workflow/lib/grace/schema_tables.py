"""Tables of a JSON schema's keys, in Markdown: what each holds, its default, what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOTHING: Mapping[str, str] = {}


def sections(
    name: str,
    schema: dict[str, Any],
    parts: dict[str, Any],
    also: Mapping[str, str] = _NOTHING,
) -> str:
    """A section on a schema, and one on each part that its keys lead to.

    Args:
        name: Heading of the first section.
        schema: What the file holds, an object of JSON schema.
        parts: The schema's `$defs`.
        also: What keys are that the schema does not describe, by key.
    """
    found = [_section(name, schema, parts, 2, also)]
    found += [_section(part, parts[part], parts, 3, also) for part in _order(schema, parts)]
    return "\n".join(found)


def _order(schema: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    """Names of the parts in the order in which keys lead to them."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                visit(one)
        elif isinstance(node, dict):
            reference = node.get("$ref")
            if reference is not None:
                name = reference.rpartition("/")[2]
                if name not in found:
                    found.append(name)
                    visit(parts[name].get("properties", {}))
            for key, value in node.items():
                if key not in ("default", "$defs"):
                    visit(value)

    visit(schema["properties"])
    return found


def _section(
    name: str,
    schema: dict[str, Any],
    parts: dict[str, Any],
    level: int,
    also: Mapping[str, str],
) -> str:
    needed = set(schema.get("required", ()))
    summary = schema.get("description", "").split("\n\n")[0].replace("\n", " ")
    lines = [
        f"{'#' * level} {name}",
        "",
        summary,
        "",
        "| key | holds | default | what it is |",
        "|---|---|---|---|",
    ]
    for key, value in schema.get("properties", {}).items():
        default = "" if key in needed else _default(value)
        words = value.get("description") or also.get(key) or _about_part(value, parts)
        words = words.replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{key}` | {_kind(value, parts)} | {default} | {words} |")
    return "\n".join(lines) + "\n"


def _about_part(value: dict[str, Any], parts: dict[str, Any]) -> str:
    """What the part is that a key holds, by itself or in a list."""
    for one in (value, value.get("items", {}), *value.get("anyOf", ())):
        part = parts.get(one.get("$ref", "").rpartition("/")[2])
        if part is not None:
            about: str = part.get("description", "").split("\n\n")[0]
            return about
    return ""


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _kind(value: dict[str, Any], parts: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        short = {"Column": "a type, or ", "Options": "a list of texts, or "}.get(name, "")
        return f"{short}[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        kinds = [_kind(one, parts) for one in value["anyOf"] if one.get("type") != "null"]
        if set(kinds) == {"whole number", "number", "text"}:
            return "text or number"
        return " or ".join(dict.fromkeys(kinds))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}), parts)}"
    if value.get("type") == "object":
        held = value.get("additionalProperties")
        return f"names: {_kind(held, parts)}" if isinstance(held, dict) else "names: anything"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
    }
    return words.get(value.get("type", ""), "anything")
