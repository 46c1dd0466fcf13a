"""The house rules, as tests: imports go down only, and what STYLE asks of every file."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "vsat").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
TEXTS = sorted(
    path for folder in ("vsat", "flows", "infra", "regions", "tests", "docs") for path in (ROOT / folder).rglob("*")
)

# From the ground up; a file may import from its own floor and from those below. `config` stands above `core`, for a
# region knows its grids, and core never knows a region.
FLOORS = (
    ("vsat.errors", "vsat.hls"),
    ("vsat.core",),
    (
        "vsat.document",
        "vsat.methods",
        "vsat.objects",
        "vsat.room",
        "vsat.fields",
        "vsat.settings",
        "vsat.config",
        "vsat.starter",
    ),
    ("vsat.io", "vsat.model"),
    ("vsat.stages",),
    ("vsat.__init__", "vsat.viewer", "vsat.processes", "vsat.stack", "vsat.doctor"),
    (
        "vsat.terminal",
        "vsat.learning",
        "vsat.operating",
        "vsat.promoting",
        "vsat.exporting",
        "vsat.mending",
        "vsat.cli",
    ),
    ("flows",),
)
PRINTING = (
    "vsat.cli",
    "vsat.terminal",
    "vsat.learning",
    "vsat.operating",
    "vsat.io.servers",
)  # the latter to the pipe of its parent process
CORE_MAY_IMPORT = {"affine", "numba", "numpy", "odc", "pyproj", "scipy", "scoringrules", "shapely", "skimage", "vsat"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def floor_of(module: str) -> int:
    for height, names in enumerate(FLOORS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return height
    raise AssertionError(f"{module} stands on no floor")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:  # `from vsat import x` means vsat.x
                is_file = (ROOT / str(node.module).replace(".", "/") / f"{alias.name}.py").is_file()
                yield node.lineno, f"{node.module}.{alias.name}" if is_file else str(node.module)


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes of the file, and public methods of those classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


def is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """A member of a Protocol: its class says what it is."""
    return ast.unparse(node.body[-1]) == "..."


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_down_only(path: Path) -> None:
    here = floor_of(module_of(path))
    wrong = [
        (line, name)
        for line, name in imports_of(path)
        if name.split(".")[0] in ("vsat", "flows") and name != "vsat" and floor_of(name) > here
    ]
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_models_and_files_do_not_know_each_other(path: Path) -> None:
    here = module_of(path)
    for one, other in (("vsat.io", "vsat.model"), ("vsat.model", "vsat.io")):
        assert not here.startswith(one) or not any(name.startswith(other) for _, name in imports_of(path))


@pytest.mark.parametrize("path", sorted((ROOT / "vsat" / "core").glob("*.py")), ids=module_of)
def test_core_knows_numbers_only(path: Path) -> None:
    used = {name.split(".")[0] for _, name in imports_of(path)} - CORE_MAY_IMPORT
    outside = used - set(sys.stdlib_module_names)
    assert outside == set()
    assert not used & {"pathlib", "socket", "urllib", "os", "time", "requests"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_prefect_is_for_flows_and_torch_for_models(path: Path) -> None:
    roots = {name.split(".")[0] for _, name in imports_of(path)}
    module = module_of(path)
    assert "prefect" not in roots or module.startswith("flows")
    assert not roots & {"torch", "transformers"} or module.startswith("vsat.model")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_house_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    module = module_of(path)
    assert text.count("\n") <= 400
    if path.name != "__init__.py" or text.strip():
        assert ast.get_docstring(tree), "a file says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            named = [getattr(kind, "id", None) for kind in kinds]
            assert node.type is not None and not {"Exception", "BaseException"} & set(named), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert module in PRINTING or module.startswith("flows"), f"line {node.lineno}: print"
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("today", "now", "utcnow")
            and isinstance(node.value, ast.Name)
        ):
            is_clock = node.value.id in ("date", "datetime")
            assert not is_clock or module == "vsat.terminal" or module.startswith("flows"), f"line {node.lineno}: clock"
    assert path.stem not in ("utils", "helpers", "common", "misc")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_public_things_say_what_they_are(path: Path) -> None:
    silent = [node.name for node in functions_of(path) if not ast.get_docstring(node) and not is_stub(node)]
    assert silent == []


def test_no_file_names_a_machine() -> None:
    place = re.compile(r"(?<![\w.$}/-])/(?:work|root|home|tmp|Users)/[\w.-]+")
    found = []
    for path in TEXTS:
        if path.suffix in (".py", ".md", ".yaml", ".yml", ".sh", ".json", ".toml", ".html", "") and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if place.search(line)]
    assert found == []


def test_no_file_of_flows_hides_a_library() -> None:
    from importlib.metadata import packages_distributions

    libraries = set(packages_distributions()) - {"flows", "vsat"} | set(sys.stdlib_module_names)
    assert {path.stem for path in (ROOT / "flows").glob("*.py")} & libraries == set()


@pytest.mark.parametrize(
    "code",
    [
        "import vsat",
        "import vsat.config, vsat.core.grid",
        "import sys; sys.argv = ['vsat', '--help']; from vsat.cli import main; main()",
    ],
    ids=["package", "config", "help"],
)
def test_torch_and_prefect_stay_out_of_what_needs_them_not(code: str) -> None:
    seen = "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr)); "
    done = subprocess.run([sys.executable, "-c", seen + code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {name.split(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "vsat" in loaded
    assert not loaded & {"torch", "transformers", "prefect", "matplotlib", "distributed"}
