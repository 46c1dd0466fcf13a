"""Small text files of the user, read strictly: keys given twice, aliases and endless nesting are errors here."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from vsat.errors import InputError

MAX_BYTES = 1_000_000
_MAX_DEPTH = 40
_MOST_DIGITS = 40  # of a number: longer ones take minutes to convert, and cannot be shown again
_MOST_PROBLEMS = 20
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line, from 1, of each key path in it."""

    content: dict[str, Any]
    lines: Mapping[Keys, int]

    def line(self, keys: Keys) -> int:
        """The line of the key path, or of the nearest one above it that the file has."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)


def read_yaml(path: Path) -> Document:
    """The mapping that the YAML file holds.

    Raises:
        InputError: no such file, too large, not UTF-8, or not the YAML of a mapping; with line and column.
    """
    text = read_text(path, next_step="`vsat init` writes a region file")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        problem = f"not valid YAML: {error.problem}{f', {error.context}' if error.context else ''}"
        raise InputError(problem, place=_place(path, error.problem_mark), next_step=_advice(error)) from error
    # what PyYAML raises for !!int "", !!bool maybe or !!timestamp now, besides its own errors
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        problem = f"not valid YAML: {type(error).__name__}: {error}"
        raise InputError(problem, place=str(path), next_step="mend it in an editor") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(f"a mapping of keys to values was expected, this file holds {kind}", place=str(path))
    assert node is not None
    return Document(content, dict(_lines(node, ())))


def read_json(path: Path, *, next_step: str) -> Any:
    """What the JSON file holds.

    Raises:
        InputError: as `read_text`, or not JSON; `next_step` says what file was wanted.
    """
    try:
        return json.loads(read_text(path, next_step=next_step))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", place=str(path), next_step=next_step) from error


def read_text(path: Path, *, next_step: str) -> str:
    """The text of a file of at most a megabyte.

    Raises:
        InputError: no such file, not a file, not readable, too large, or not UTF-8.
    """
    if not path.is_file():
        raise InputError(
            "no such file" if not path.exists() else "this is not a file", place=str(path), next_step=next_step
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"not readable: {error.strerror}", place=str(path), next_step="check its permissions"
        ) from error
    if len(data) > MAX_BYTES:
        raise InputError(f"the file is larger than {MAX_BYTES:,} bytes", place=str(path), next_step="simplify it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError("not UTF-8 text", place=f"{path}:{line}", next_step="save the file as UTF-8") from error


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> str:
    """What `error` says of the document: one problem, or a list of them, each with line, key path and value."""
    found = sorted((_problem(dict(detail), document, model) for detail in error.errors()), key=lambda pair: pair[0])
    lines = [f"line {line}: {text}" for line, text in found[:_MOST_PROBLEMS]]
    if (more := len(found) - _MOST_PROBLEMS) > 0:
        lines.append(f"and {more} more")
    return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(found)} problems", *lines]) + "\n"


def _problem(detail: Mapping[str, Any], document: Document, model: type[BaseModel]) -> tuple[int, str]:
    keys: Keys = tuple(key for key in detail["loc"] if key != "[key]")
    value, text = detail.get("input"), str(detail["msg"]).removeprefix("Value error, ")
    match detail["type"]:
        case "missing":
            text = "this key is missing"
        case "extra_forbidden":
            text = f"there is no such key; known here: {', '.join(_known(model, keys[:-1]))}"
        case "string_pattern_mismatch":
            text = f"it must look like {detail['ctx']['pattern']}, not {value!r}"
        case "told":
            pass
        case _ if not isinstance(value, dict):
            text = f"{text.replace('Input should be', 'it must be')}, not {_shown(value)}"
    return document.line(keys), f"{'.'.join(str(key) for key in keys) or 'region'}: {text}"


def _known(model: type[BaseModel], keys: Keys) -> list[str]:
    for key in keys:
        model = model.model_fields[str(key)].annotation  # type: ignore[assignment]
    return list(model.model_fields)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Loader(yaml.SafeLoader):
    """Plain data only; no key twice, no aliases (a few lines of them can mean gigabytes), no endless nesting."""

    depth = 0
    # Days stay text, so that a wrong one is named by its key like every other wrong value.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read here", _mark(event))
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {_MAX_DEPTH} deep", _mark(event))
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag in _NUMBERS and len(node.value) > _MOST_DIGITS:
            problem = f"a number has at most {_MOST_DIGITS} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                first = seen[key.value].line + 1
                problem = f"the key {key.value!r} stands twice (first in line {first})"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[key.value] = key.start_mark
        return super().construct_mapping(node, deep=deep)


def _lines(node: yaml.Node, keys: Keys) -> list[tuple[Keys, int]]:
    found = [(keys, node.start_mark.line + 1)] if not keys else []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*keys, key.value)
            found += [(path, key.start_mark.line + 1), *_lines(value, path)]
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*keys, index)
            found += [(path, value.start_mark.line + 1), *_lines(value, path)]
    return found


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)


def _advice(error: yaml.MarkedYAMLError) -> str:
    if r"'\t'" in (error.problem or ""):
        return "indent with spaces, YAML takes no tabs"
    if "twice" in (error.problem or ""):
        return "keep one of them"
    return "mend the file at this line and column"


def _mark(event: yaml.Event) -> yaml.Mark:
    mark = event.start_mark
    assert isinstance(mark, yaml.Mark)
    return mark
