"""The verbs as a person or a script uses them: exit codes, JSON, messages, and what --help costs."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from faulty import serving

import vsat
from regions import END, TEXT, tiny, write_archive, write_region
from vsat import cli
from vsat.config import load_region
from vsat.io.archive import withhold

VERBS = [
    "init", "check", "plan", "fetch", "generate", "fill", "sample", "evaluate", "export", "backfill", "nightly", "status", "verify",
    "repair", "gc",
    "demo", "up", "down", "serve", "doctor",
]  # fmt: skip
Vsat = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vsat:
    """`vsat WORDS` in this process: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vsat", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def region_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("cli"))


def told(run: Vsat, *words: object) -> Any:
    code, out, err = run(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_help_lists_every_verb_and_exit_code(run: Vsat) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)
    assert "0 done, 1 some work failed, 2 the input cannot be used, 3 catalogue down" in " ".join(out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_teaches_with_an_example(run: Vsat, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"Example: vsat {verb}" in " ".join(out.split())


def test_help_is_cheap() -> None:
    """Heavy libraries stay out of verbs that do not need them; CPU time, as the machine may be busy."""
    script = (
        "import resource, sys\nfrom vsat.cli import app\nsys.argv = ['vsat', '--help']\n"
        "try: app()\nexcept SystemExit: pass\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "assert used.ru_utime + used.ru_stime < 1.0, used\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    for heavy in ("torch", "prefect", "xarray", "numpy", "pydantic", "rasterio", "dask"):
        assert f"'{heavy}'" not in done.stderr


def test_the_public_names_are_ten_and_load_when_used() -> None:
    script = "import sys, vsat; assert not {'numpy', 'pydantic'} & set(sys.modules); print(len(vsat.__all__))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "10"
    for name in vsat.__all__:
        assert getattr(vsat, name) is not None
    assert dir(vsat) == sorted(vsat.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vsat.nothing


def test_init_writes_a_file_that_check_accepts_and_never_one_that_it_does_not(run: Vsat, tmp_path: Path) -> None:
    file = tmp_path / "new" / "farm.yaml"
    assert told(run, "init", file, "--bbox", "13.1,48.2,13.3,48.4", "--start", "2023-01-01") == {"file": str(file)}
    assert (file.parent / "region.schema.json").is_file()
    checked = told(run, "check", file)
    assert (checked["region"], checked["first"]) == ("farm", "2023-01-01")
    assert list(checked["tiles"]) == [grid.tile for grid in load_region(file).grids()]
    assert run("init", file, "--bbox", "13.1,48.2,13.3,48.4")[0] == 2  # there already
    assert run("init", file, "--bbox", "13.1,48.2,13.3,48.4", "--force")[0] == 0
    for box in ("13.1,48.2,13.3", "a,b,c,d", "13.1,95,13.3,96"):
        code, _, err = run("init", tmp_path / "bad.yaml", "--bbox", box)
        assert code == 2, err
    assert not list(tmp_path.glob("*bad*"))


def test_init_takes_a_name_in_the_folder_of_regions(run: Vsat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAT_REGIONS", str(tmp_path))
    assert run("init", "alps", "--bbox", "11,46.9,11.1,47")[0] == 0
    assert told(run, "check", "alps")["region"] == "alps"


def test_from_plan_to_verify(run: Vsat, region_file: Path) -> None:
    region = load_region(region_file)
    planned = told(run, "plan", region_file)
    assert planned["scenes"]["to_fetch"] > 10
    assert planned["images"]["without_scenes_yet"] == 7
    assert not list(region.home.glob("cubes/*"))

    part = told(run, "fetch", region_file, "--end", "2023-05-20", "--workers", 2)
    assert 0 < part["fetch"]["fetched"] < planned["scenes"]["to_fetch"]
    made = told(run, "generate", region_file, "--end", "2023-05-12", "--day", "2023-05-20")
    assert [key for key, _ in made["generate"]["images"]] == ["33UVP/2023-05-01", "33UVP/2023-05-11"]

    night = told(run, "nightly", region_file, "--day", END)
    assert night["fetch"]["fetched"] == planned["scenes"]["to_fetch"] - part["fetch"]["fetched"]
    dry = told(run, "backfill", region_file, "--day", END, "--method", "whittaker", "--dry-run")
    assert (dry["scenes"], dry["images"], dry["image_seconds"]) == (0, 7, None)
    again = told(run, "backfill", region_file, "--day", END, "--policy", "skip")
    assert (again["fetch"]["fetched"], again["generate"]["images"]) == (0, [])

    status = told(run, "status", region_file)
    assert (sum(status["images"].values()), status["up_to"]) == (7, END.isoformat())
    assert told(run, "verify", region_file)["problems"] == []
    code, out, _ = run("status", region_file)
    assert code == 0
    assert "last image       2023-06-30" in out

    lost = sorted(region.home.glob("images/*/*/*.png"))[0]
    lost.unlink()
    code, out, _ = run("verify", region_file)
    assert code == 1
    assert f"missing: {lost.relative_to(region.home)}" in out


def test_progress_is_plain_lines_where_there_is_no_terminal(run: Vsat, tmp_path: Path) -> None:
    file = write_region(tmp_path, end=date(2023, 5, 20))
    write_archive(load_region(file), end=date(2023, 5, 20))
    code, out, err = run("fetch", file)
    assert code == 0
    assert "scenes, 2023-05-01 to 2023-05-20" in err
    assert "scenes fetched" in out
    assert "\x1b" not in out + err
    assert run("--quiet", "nightly", file, "--day", "2023-05-20")[2] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "nowhere"], "no region 'nowhere'"),
        (["fetch", "REGION", "--start", "yesterday"], "'yesterday' is not a day"),
        (["fetch", "REGION", "--start", "2023-06-02", "--end", "2023-06-01"], "2023-06-02 is after 2023-06-01"),
        (["backfill", "REGION", "--start", "2020-01-01", "--end", "2020-02-01"], "is in the region's period"),
        (["backfill", "REGION", "--method", "magic"], "'magic' is no method: choose among region, nearest, linear"),
        (["fill", "REGION", "--every", "5", "--out", "out.tif"], "neither .nc nor .zarr"),
        (["generate", "REGION", "--policy", "perhaps"], "perhaps"),
        (["fetch"], "REGION"),
        (["dance"], "dance"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run: Vsat, region_file: Path, words: list[str], message: str) -> None:
    code, out, err = run(*(region_file if word == "REGION" else word for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_an_error_is_json_too(run: Vsat) -> None:
    code, out, err = run("check", "nowhere", "--json")
    answer = json.loads(out)
    assert code == answer["exit_code"] == 2
    assert answer["error"] == "InputError"
    assert "nowhere" in err
    assert err.endswith(f"see {answer['page']}\n") and answer["page"] == "docs/errors.md#inputerror"


@pytest.mark.parametrize("verb", ["fetch", "nightly", "backfill", "plan"])
def test_no_scenes_and_catalogue_down_have_their_own_exit_codes(run: Vsat, tmp_path: Path, verb: str) -> None:
    empty = write_region(tmp_path, "empty", end=date(2023, 5, 10))
    write_archive(load_region(empty), end=date(2023, 5, 10))
    withhold(tmp_path / "archive", date(2023, 1, 1))
    code, _, err = run(verb, empty)
    assert code == 4, err
    with serving() as server:
        text = TEXT.replace("kind: archive, path: archive", f"kind: stac, url: '{server.url}'")
        code, _, err = run(verb, write_region(tmp_path, "dead", text=text))
    assert code == 3, err


def test_all_cloudy_and_failed_work_have_their_own_exit_codes(run: Vsat, tmp_path: Path) -> None:
    cut = TEXT + "cloud: {{max_cover: 0}}\n"
    file = write_region(tmp_path, "white", text=cut, end=date(2023, 5, 20))
    write_archive(load_region(file), end=date(2023, 5, 20))
    assert run("nightly", file)[0] == 5
    torn = sorted(tmp_path.glob("archive/HLSS30_2.0/*/*.B04.tif"))[0]
    torn.write_bytes(torn.read_bytes()[:100])
    code, out, err = run("nightly", write_region(tmp_path, "torn", end=date(2023, 5, 20)))
    assert code == 1
    assert "33UVP/2023-05-04/S30: " in out
    assert err.endswith("see docs/errors.md#exit-1\n")


def test_fill_fills_a_cube_of_ones_own(run: Vsat, tmp_path: Path) -> None:
    days = np.array(["2023-05-01", "2023-05-11", "2023-05-21"], "datetime64[ns]")
    cube = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), np.full((3, 2, 4, 5), 1234, np.int16), {"scale_factor": 1e-4}),
            "fmask": (("time", "y", "x"), np.zeros((3, 4, 5), np.uint8)),
        },
        coords={"time": days, "band": ["red", "nir"], "y": -30.0 * np.arange(4), "x": 30.0 * np.arange(5)},
    )
    source, out = tmp_path / "cube.nc", tmp_path / "filled.nc"
    cube.to_netcdf(source)
    done = told(run, "fill", source, "--dates", "2023-05-05,2023-05-11", "--method", "linear", "--out", out)
    assert done == {"out": str(out), "dates": 2, "method": "linear"}
    with xr.open_dataset(out) as filled:
        np.testing.assert_allclose(filled["reflectance"], 0.1234, atol=1e-6)


def test_patches_are_drawn_and_judged(run: Vsat, tmp_path: Path) -> None:
    region, out = tiny(tmp_path), tmp_path / "patches"
    assert run("fetch", region)[0] == 0
    words = ["sample", region, "--out", out, "--patches", 8, "--size", 8, "--stride", 2, "--days", 40, "--every", 10]
    splits = ["--block", 13, "--buffer", 2, "--test", 0.3, "--strata", "season,greenness", "--test-times", "2023-JJA"]
    found = told(run, *words)
    assert (found["patches"], found["size_px"], sum(found["splits"].values())) == (8, 8, 8)
    assert "maps" not in found
    code, out_text, _ = run(*words)
    assert code == 0 and "0 of them new" in out_text
    code, _, err = run(*words, *splits)
    assert code == 2 and "it was drawn with" in err
    files = ["--json", tmp_path / "v.json", "--html", tmp_path / "v" / "v.html"]
    code, out_text, err = run("evaluate", region, "--protocol", "dates", "--folds", 1, *files)
    assert code == 0, err
    assert "anydate" in out_text and "looked through for leaks" in out_text
    assert json.loads((tmp_path / "v.json").read_text())["protocols"] == ["dates"]
    assert "<h1>" in (tmp_path / "v" / "v.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("evaluate", "none.nc"), "none.nc"),
        (("evaluate", "x", "--protocol", "magic"), "unknown protocol 'magic'"),
        (("evaluate", "x", "--methods", "magic"), "unknown method 'magic'"),
        (("sample", "none.yaml", "--out", "p"), "none.yaml"),
        (("sample", "none.yaml", "--out", "p", "--static", "dem.tif"), "write elevation=dem.tif"),
        (("sample", "none.yaml", "--out", "p", "--strata", "colour"), "'colour'"),
        (("sample", "none.yaml", "--out", "p", "--test", "1", "--validation", "1"), "leave nothing to train on"),
    ],
)
def test_what_cannot_be_drawn_or_judged_is_told(run: Vsat, words: tuple[str, ...], told: str) -> None:
    code, _, err = run(*words)
    assert code == 2 and told in err


def test_a_stack_that_does_not_start_says_why_once(run: Vsat, region_file: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = run("up", region_file, "--detach", "--folder", tmp_path / "stack", "--port", port)
    assert code == 1
    assert f"port {port} is taken" in err
    assert err.count("see docs/errors.md") == 1
