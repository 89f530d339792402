"""Which JSON schemas an answer can be held to: what every engine keeps, and nothing it would drop.

Our own engines refuse what they cannot keep (worker/inference/grammar.py); one of the site's own
may leave it out without a word. A rule that is not kept is worse than a refusal, so what is not
listed here is refused by its name, whatever answers.
"""

from typing import Any

_KEPT = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items"}
    | {"prefixItems", "minItems", "maxItems", "anyOf", "oneOf", "$ref", "$defs", "definitions"}
    | {"pattern", "minLength", "maxLength", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
)
_SAYS_NOTHING = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$id", "$comment"}
)
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_FORMATS = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}
)
_BOUNDED = frozenset({"integer", "number", "null"})
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# Where a schema holds further ones: by name, in a list, or one.
_BY_NAME, _IN_LIST, _ONE = (
    ("properties", "$defs", "definitions"),
    ("anyOf", "oneOf", "prefixItems"),
    ("items", "additionalProperties"),
)
MAX_RULES = 2000


def problem(schema: Any) -> tuple[str, str] | None:
    """Say what of a schema cannot be kept.

    Returns:
        Where, as a path within the schema (empty: the schema itself), and what is wrong; None where
        an answer can be held to all of it.
    """
    todo: list[tuple[str, Any]] = [("", schema)]
    for number, (path, rule) in enumerate(todo):
        if number >= MAX_RULES:
            return "", f"it has more than {MAX_RULES:,} parts"
        if isinstance(rule, bool):
            if not rule and not path.endswith("additionalProperties"):
                return path, "false lets no answer pass"
            continue
        if not isinstance(rule, dict):
            return path, "it has to be an object"
        if wrong := _wrong(rule, schema):
            return path, wrong
        before = f"{path}." if path else ""
        for key in _BY_NAME:
            todo += [(f"{before}{key}.{name}", one) for name, one in rule.get(key, {}).items()]
        for key in _IN_LIST:
            todo += [(f"{before}{key}[{i}]", one) for i, one in enumerate(rule.get(key, []))]
        todo += [(f"{before}{key}", rule[key]) for key in _ONE if key in rule]
    return None


def _wrong(rule: dict[str, Any], root: Any) -> str | None:
    unknown = next((key for key in rule if key not in _KEPT | _SAYS_NOTHING), None)
    if unknown is not None:
        return f"{unknown!r} cannot be kept by what answers here"
    return _wrong_form(rule) or _wrong_meaning(rule, root)


def _wrong_form(rule: dict[str, Any]) -> str | None:
    if not all(isinstance(kind, str) and kind in _TYPES for kind in _kinds(rule)):
        return f"'type' has to be one of {', '.join(sorted(_TYPES))}"
    for key in _BY_NAME:
        if not isinstance(rule.get(key, {}), dict):
            return f"{key!r} has to be an object"
    for key in (*_IN_LIST, "enum"):
        if key in rule and not (isinstance(rule[key], list) and rule[key]):
            return f"{key!r} has to be a list that is not empty"
    required = rule.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return "'required' has to be a list of names"
    return None


def _wrong_meaning(rule: dict[str, Any], root: Any) -> str | None:
    if any(name not in rule.get("properties", {}) for name in rule.get("required", [])):
        return "'required' names what 'properties' does not describe"
    kinds = set(_kinds(rule))
    if any(key in rule for key in _NUMBERS) and not (kinds and kinds <= _BOUNDED):
        return "bounds are kept where 'type' is integer or number"
    pattern = rule.get("pattern", "^$")
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        return "'pattern' has to begin with ^ and end with $"
    if "format" in rule and str(rule["format"]) not in _FORMATS:
        return f"'format' is kept for {', '.join(sorted(_FORMATS))} alone"
    if "$ref" in rule and _found(rule["$ref"], root) is None:
        return "'$ref' leads nowhere; a schema may refer to its own parts, as '#/$defs/name'"
    return None


def _kinds(rule: dict[str, Any]) -> list[Any]:
    kinds = rule.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def _found(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    place = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        place = place.get(name) if isinstance(place, dict) else None
    return place
