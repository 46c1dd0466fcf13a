"""The documents: the site builds, every command and block of Python in them runs, figures and keys are the code's own."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import xml.dom.minidom
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import (
    DOCS,
    PAGES,
    ROOT,
    RUN,
    SHOWN,
    SMALLER,
    blocks_of,
    environment,
    make_project,
    name_of,
    prepare_farm,
    regions_shown,
    run_page,
    runnable,
)

import vsat
from vsat import errors
from vsat.config import Region, load_region
from vsat.errors import ExitCode, VsatError

# Blocks that nobody runs here, by page and first words. Each says why in the page; one that is not in this list fails.
NOT_RUN = {
    ("README.md", "make demo"): "the demo and the suite are long, and run by themselves",
    ("README.md", ".venv/bin/vsat up"): "docs/operate.md has the same",
    ("README.md", ".venv/bin/vsat serve"): "docs/viewer.md and docs/products.md have the same",
    ("README.md", ".venv/bin/vsat verify"): "docs/operate.md has the same",
    ("README.md", ".venv/bin/vsat evaluate"): "it takes minutes; docs/trust.md has a smaller one",
    ("README.md", ".venv/bin/vsat sample"): "docs/own-model.md has a smaller one",
    ("README.md", ".venv/bin/vsat train"): "docs/own-model.md has the same",
    ("docs/index.md", "make demo"): "the demo and the suite are long, and run by themselves",
    ("docs/account.md", 'echo "machine'): "it would change a file in the home of who runs it",
    ("docs/operate.md", "vsat down"): "it replaces the checkout that the tests run from",
    ("docs/own-model.md", "vsat model"): "it wants a larger region",
    ("docs/viewer.md", "vsat serve"): "the next block runs the same, and stops it",
    ("docs/outgrowing.md", "dask scheduler"): "it takes several machines",
}
RUNNABLE = [page for page in PAGES if runnable(page)]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def hooks() -> ModuleType:
    """docs/site_hooks.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_its_language_and_every_one_that_is_not_run_is_known(page: Path) -> None:
    blocks = blocks_of(page)
    assert page.read_text("utf-8").count("```") == 2 * len(blocks)
    assert {block.language for block in blocks} <= {*RUN, *SHOWN}
    left_out = {(name_of(page), block.first): block.not_run for block in blocks if block.not_run}
    assert left_out == {key: why for key, why in NOT_RUN.items() if key[0] == name_of(page)}


def test_what_is_made_smaller_is_there() -> None:
    told = "\n".join(block.text for page in PAGES for block in runnable(page))
    assert [long for long in SMALLER if long not in told] == []


Outcomes = Callable[[Path], tuple[int, str]]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """What came of the commands of a page. Pages run two at a time, each in a project of its own."""
    given = {
        item.callspec.params["page"]: None
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    }
    folder = tmp_path_factory.mktemp("docs")
    make_project(folder / "bare")
    if any("<!-- prepared: farm -->" in page.read_text("utf-8") for page in given):
        shutil.copytree(folder / "bare", folder / "prepared")
        # wrappers name the project that they were made in
        for path in (folder / "prepared" / ".venv" / "bin").iterdir():
            path.write_text(path.read_text().replace(str(folder / "bare"), str(folder / "prepared")))
        prepare_farm(folder / "prepared")
    with ThreadPoolExecutor(2) as pool:
        running: dict[Path, Future[tuple[int, str]]] = {
            page: pool.submit(_run, page, folder, folder / f"page-{number}")
            for number, page in enumerate(sorted(given, key=starts_no_server))
        }
        yield lambda page: running[page].result()


def starts_no_server(page: Path) -> bool:
    """False for the pages that wait most, and so begin first."""
    return not any(re.search(r"^vsat (up|serve)", block.text, flags=re.MULTILINE) for block in runnable(page))


def _run(page: Path, source: Path, folder: Path) -> tuple[int, str]:
    origin = source / ("prepared" if "<!-- prepared: farm -->" in page.read_text("utf-8") else "bare")
    shutil.copytree(origin, folder)
    for path in (folder / ".venv" / "bin").iterdir():
        path.write_text(path.read_text().replace(str(origin), str(folder)))
    return run_page(page, folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_every_command_of_the_page_runs(page: Path, outcomes: Outcomes) -> None:
    code, told = outcomes(page)
    assert code == 0, f"{name_of(page)} ended with {code}:\n{told[-3000:]}"
    assert "Traceback" not in told
    lacking = [block.needs for block in blocks_of(page) if block.missing]
    if lacking:
        pytest.skip(f"the rest of the page has run; not installed: {', '.join(lacking)}")


@pytest.mark.parametrize("page", [DOCS / "errors.md"], ids=name_of)
def test_what_an_error_looks_like_is_what_the_page_shows(page: Path, outcomes: Outcomes) -> None:
    shown = next(block.text for block in blocks_of(page) if block.language == "text")
    _, said = outcomes(page)
    for line in shown.strip().splitlines():
        assert line.split("regions there are")[0] in said


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs_and_is_committed_without_outputs(notebook: Path, tmp_path: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    # in a process of its own: the client's event loop and sockets warn as they are taken down
    execute = "from nbclient.cli import main; main()"
    words = ["--inplace", "--timeout=300", "--startup_timeout=120", "--kernel_name=python3"]
    copy = tmp_path / notebook.name
    shutil.copy(notebook, copy)
    set_here = environment(tmp_path) | {"JUPYTER_PLATFORM_DIRS": "1"}
    set_here.pop("MPLBACKEND")  # the kernel's own draws into the notebook
    done = subprocess.run(
        [sys.executable, "-c", execute, *words, copy.name], cwd=tmp_path, env=set_here,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads(copy.read_text("utf-8"))["cells"]
    outputs = [output for cell in made for output in cell.get("outputs", ())]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)


@pytest.mark.parametrize("page", [page for page in PAGES if regions_shown(page)], ids=name_of)
def test_region_files_on_pages_can_be_read(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(regions_shown(page)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert load_region(path).grids()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of mkdocs fails it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = environment(folder) | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Loaded(HTMLParser):
    """The addresses that a page loads by itself, and all its anchors and text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.anchors.add(str(given["id"]))
        if tag in ("script", "img", "iframe", "source", "embed", "audio", "video"):
            self.loads.append(given.get("src") or "")
        if tag == "object":
            self.loads.append(given.get("data") or "")
        if tag == "link" and (given.get("rel") or "") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    elsewhere = re.compile(r"^(?:[a-z]+:)?//")
    assert {(page.name, url) for page in pages for url in Loaded(page).loads if elsewhere.match(url)} == set()
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style.name


def test_every_page_and_notebook_is_on_the_site(site: Path) -> None:
    wanted = [page.relative_to(DOCS).with_suffix(".html") for page in [*PAGES[1:], *NOTEBOOKS]]
    assert [str(path) for path in wanted if not (site / path).is_file()] == []


def test_the_reference_has_every_public_name_verb_and_key(site: Path) -> None:
    names = Loaded(site / "python.html")
    missing = [name for name in vsat.__all__ if not any(one.endswith(f".{name}") for one in names.anchors)]
    assert [name for name in missing if name != "__version__"] == []
    verbs = Loaded(site / "commands.html")
    given = [name for name, _ in hooks().verbs(_command())]
    assert len(given) > 15
    assert [name for name in given if name.replace(" ", "-") not in verbs.anchors] == []
    keys = Loaded(site / "region-file.html").text
    nested = [f"{name}.{key}" for name in ("area", "catalogue", "cloud") for key in _fields(name)]
    assert [key for key in [*Region.model_fields, *nested] if key not in keys] == []


def test_figures_on_pages_are_those_of_the_log(site: Path) -> None:
    columns = "cube, hidden, anydate, best classical, its MAE, ratio, 90 % holds"
    assert f"| {columns} -->" in (DOCS / "trust.md").read_text("utf-8")
    shown = Loaded(site / "trust.html").text
    rows = [
        line
        for line in (DOCS / "log.md").read_text("utf-8").splitlines()
        if line.startswith("| flanders-2018 | gaps |")
    ]
    for cell in rows[0].strip("| ").split(" | ")[:6]:
        assert cell in shown
    for wrong in (
        "log | No such heading | cube",
        "log | The any-date model: sixth weights | no such column",
        "nothing",
    ):
        with pytest.raises(KeyError):
            hooks().part(wrong)


def test_prose_names_verbs_and_options_that_there_are() -> None:
    known = {
        name: {option for given in verb.params for option in (*given.opts, *given.secondary_opts)}
        for name, verb in hooks().verbs(_command())
    }
    first = {name.split()[1] for name in known}
    for page in PAGES:
        if page.name == "log.md":  # it tells of what was
            continue
        for words in re.findall(r"`(?:\.venv/bin/)?vsat ([a-z]+[^`]*)`", page.read_text("utf-8")):
            verb = words.split()[0]
            assert verb in first, f"{name_of(page)}: vsat {words}"
            two = f"vsat {' '.join(words.split()[:2])}"
            options = known[two] if two in known else known.get(f"vsat {verb}", set())
            given = set(re.findall(r"(?<![\w-])--[a-z-]+", words)) - {"--help"}
            assert given <= options, f"{name_of(page)}: vsat {words}"


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "infra").rglob("*.md")], ids=name_of)
def test_links_of_pages_beside_the_site_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def _command() -> Any:
    from typer.main import get_command

    from vsat.cli import app

    return get_command(app)


def _fields(name: str) -> list[str]:
    return list(Region.model_fields[name].annotation.model_fields)  # type: ignore[union-attr]


def kinds() -> set[str]:
    """The names of all errors of ours, wherever in the package they are."""
    texts = (path.read_text("utf-8") for folder in ("vsat", "flows") for path in (ROOT / folder).rglob("*.py"))
    bases = dict(re.findall(r"^class (\w+)\((\w+)\):", "\n".join(texts), flags=re.MULTILINE))
    found = {"VsatError"}
    while more := {name for name, base in bases.items() if base in found} - found:
        found |= more
    return found


def test_every_error_and_exit_code_has_its_place(site: Path) -> None:
    there = Loaded(site / "errors.html").anchors
    assert ROOT / errors.PAGE == DOCS / "errors.md"
    assert VsatError("").page == f"{errors.PAGE}#vsaterror" and errors.DiskFull("").page == f"{errors.PAGE}#diskfull"
    assert {name for name in kinds() if name.lower() not in there} == set()
    assert {code.page for code in ExitCode if code.page.split("#")[1] not in there} == set()
    told = (DOCS / "errors.md").read_text("utf-8")
    assert set(re.findall(r"^### ([A-Z]\w+)$", told, flags=re.MULTILINE)) == kinds()
    for code in ExitCode:
        assert re.search(rf"^### {int(code)}: .*#exit-{int(code)} ", told, flags=re.MULTILINE)


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.svg"
    script = [sys.executable, str(DOCS / "draw_architecture.py"), "--out", str(drawn)]
    subprocess.run(script, check=True, capture_output=True, timeout=60)
    assert drawn.read_bytes() == (DOCS / "architecture.svg").read_bytes()
    root = xml.dom.minidom.parse(str(drawn)).documentElement
    assert root.getElementsByTagName("title") and root.getElementsByTagName("desc")
