"""What the site has that is not written by hand: parts of pages made from the code and the log, and notebooks as pages.

A page says `<!-- generated: NAME -->` where such a part belongs; `<!-- generated: log | HEADING | COLUMN, COLUMN -->` is the
first table with these columns below a heading of the log. mkdocs calls `on_files` and `on_page_markdown`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
MARK = re.compile(r"<!-- generated: (.+?) -->")
Json = Mapping[str, Any]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Every notebook is a page of the same name."""
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        uri = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, uri, content=notebook_page(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with every mark replaced by what it names."""
    return MARK.sub(lambda mark: part(mark[1]), markdown)


def part(name: str) -> str:
    """The Markdown that a mark stands for; a KeyError where it names nothing."""
    kind, *words = (word.strip() for word in name.split(" | "))
    return log_table(*words) if kind == "log" else PARTS[kind]()


def notebook_page(path: Path) -> str:
    """A notebook's texts and code, without outputs: those are made by whoever runs it."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    blocks = [
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for cell, text in zip(cells, texts, strict=True)
    ]
    told = f"*This page is `docs/notebooks/{path.name}`; open it in Jupyter to run it.*"
    return "\n\n".join([blocks[0], told, *blocks[1:]]) + "\n"


def log_table(heading: str, columns: str, file: Path = DOCS / "log.md") -> str:
    """These columns of the first table that has them all, below the first heading of the log that begins so."""
    wanted = [column.strip() for column in columns.split(",")]
    sections = re.split(r"^## ", file.read_text("utf-8"), flags=re.MULTILINE)
    section = next((text for text in sections if text.startswith(heading)), None)
    if section is None:
        raise KeyError(f"the log has no section {heading!r}")
    for header, *rows in _tables(section):
        if set(wanted) <= set(header):
            places = [header.index(column) for column in wanted]
            return _table(wanted, ([row[place] for place in places] for row in rows))
    raise KeyError(f"no table below {heading!r} has the columns {columns}")


def region_keys() -> str:
    """The keys of a region file, from the models that read it."""
    from vsat.starter import region_schema

    schema = region_schema()
    inner = {
        name: schema["$defs"][told["$ref"].split("/")[-1]]
        for name, told in schema["properties"].items()
        if "$ref" in told
    }
    texts = [_keys("Top level", "", schema, inner)]
    texts += [_keys(f"`{name}`", f"{name}.", model, {}) for name, model in inner.items()]
    return "\n\n".join(texts)


def _keys(title: str, before: str, model: Json, inner: Json) -> str:
    rows = []
    for name, told in model["properties"].items():
        required = name in model.get("required", ())
        if name in inner:
            about = inner[name]["description"].rstrip(".")
            rows.append((f"`{name}`", f"mapping, [below](#{name})", "required" if required else "", about))
        else:
            rows.append((f"`{before}{name}`", kind_of(told), _default(told, required), told["description"]))
    about = model["description"] + "\n\n" if before else ""
    return f"### {title}\n{about}{_table(('key', 'value', 'default', 'meaning'), rows)}"


def kind_of(told: Json) -> str:
    """What a value of this JSON Schema looks like, in a few words."""
    match told:
        case {"anyOf": kinds}:
            said = " or ".join(kind_of(one) for one in kinds if one.get("type") != "null")
        case {"enum": values}:
            said = " \\| ".join(f"`{value}`" for value in values)
        case {"prefixItems": items}:
            said = f"{len(items)} numbers"
        case {"type": "array", "items": item}:
            said = f"list of {kind_of(item)}"
        case {"minimum": least, "maximum": most}:
            said = f"number from {least:g} to {most:g}"
        case {"type": kind, **rest}:
            by_format = {"date": "day, `2024-05-01`", "path": "path"}.get(rest.get("format", ""), "text")
            said = {"object": "mapping", "boolean": "`true` or `false`", "string": by_format}.get(kind, "number")
        case _:
            said = "text"
    return said


def commands() -> str:
    """Every verb with its arguments and options, from the program itself."""
    from typer.main import get_command

    from vsat.cli import app

    return "\n\n".join(_verb(name, verb) for name, verb in verbs(get_command(app)))


def verbs(group: Any, before: str = "vsat") -> Iterator[tuple[str, Any]]:
    """Name and command of every verb, in the order of `vsat --help`."""
    for name, verb in group.commands.items():
        if getattr(verb, "commands", None):
            yield from verbs(verb, f"{before} {name}")
        else:
            yield f"{before} {name}", verb


def _verb(name: str, verb: Any) -> str:
    rows, usage = [], [name]
    for given in verb.params:
        word = f"`{given.metavar or given.name.upper()}`"
        if given.param_type_name == "argument":
            usage.append(word.strip("`"))
        else:
            word = ", ".join(f"`{option}`" for option in (*given.opts, *given.secondary_opts))
        if given.param_type_name == "option" and given.required:
            usage.append(f"{given.opts[0]} {given.name.upper()}")
        if given.name != "help":
            rows.append((word, _given(given), (given.help or "").replace("|", "\\|")))
    example = (verb.epilog or "").removeprefix("Example: ")
    command, comma, then = example.partition(", then")
    texts = [
        f"### {name}",
        verb.help or "",
        f"Usage: `{' '.join(usage)} [options]`",
        _table(("", "default", "meaning"), rows),
    ]
    return "\n\n".join([*texts, f"Example: `{command}`{comma}{then}"])


def _given(given: Any) -> str:
    if given.required:
        return "required"
    if given.default in (None, False, (), ""):
        return ""
    return f"`{'--' if given.default is True else ''}{given.opts[0].strip('-') if given.default is True else given.default}`"


def public_names() -> str:
    """The public names of the package, each for mkdocstrings to explain."""
    import vsat

    named = [name for name in vsat.__all__ if not name.startswith("_")]
    blocks = [f"::: {vsat._HOMES[name]}.{name}" for name in sorted(named, key=str.lower)]
    return "\n\n".join(blocks)


def quality_bits() -> str:
    """The quality byte, its bits where the code has them."""
    from vsat.core import quality

    flags = {
        "EXTRAPOLATED": "extrapolated: no clear look on one side of the date",
        "SNOW": "snow or ice, by the Fmask of the nearest look of the ground",
        "WATER": "water, by the same",
        "CHANGE": f"change suspected: the looks before and after differ in a band by more than {quality.CHANGE_SDS:g} standard "
        f"deviations of their difference, and by more than {quality.CHANGE_LEAST:g}",
        "LOW": f"low confidence: the mean standard deviation is above {quality.LOW_LEAST:g} and above {quality.LOW_SHARE:g} of the "
        "mean reflectance",
        "NO_VALUE": "no value: the pixel is -9999 in every band",
    }
    origin = "origin: 0 observed that day, 1 filled with a clear look within 16 days, 2 filled farther, 3 prior only"
    rows = [("0-1", quality.ORIGIN_MASK, origin)]
    values = {getattr(quality, name): text for name, text in flags.items()}
    rows += [(str(value.bit_length() - 1), value, text) for value, text in sorted(values.items())]
    return _table(("bit", "mask", "meaning"), [(bit, str(mask), text) for bit, mask, text in rows])


PARTS: dict[str, Callable[[], str]] = {
    "region keys": region_keys,
    "commands": commands,
    "public names": public_names,
    "quality bits": quality_bits,
}


def _default(told: Json, required: bool) -> str:
    if required:
        return "required"
    value = told.get("default")
    if value is None or value == []:
        return ""
    return f"`{json.dumps(value).strip(chr(34))}`"


def _tables(text: str) -> Iterator[list[list[str]]]:
    """Every table of a Markdown text as rows of cells, the header first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, _, *rows = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        )
        yield [header, *rows]


def _table(header: Any, rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
