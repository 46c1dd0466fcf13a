"""A QGIS project with our layers, opened offscreen: styles, names, scale and nodata are there without a click."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from products import DAYS, region_with_images

from vsat.hls import BANDS, FILL
from vsat.io.images import published
from vsat.io.styles import ORIGIN_COLOURS
from vsat.io.variables import INDEX_FILL
from vsat.stages.export import ExportOptions, export

pytestmark = pytest.mark.slow
PYTHON = Path("/usr/bin/python3")  # Debian's, for which its python3-qgis is
SCRIPT = Path(__file__).with_name("qgis_project.py")
ALONE = {"PATH": "/usr/bin:/bin", "QT_QPA_PLATFORM": "offscreen"}


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What QGIS says of each layer, by name."""
    found = PYTHON.exists() and subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, env=ALONE)
    if not found or found.returncode:
        pytest.skip("QGIS is not installed (Debian: python3-qgis)")
    folder = tmp_path_factory.mktemp("qgis")
    region = region_with_images(folder, days=DAYS[:1])
    export(region, folder / "stacks", ExportOptions(bands=(), indices=("ndvi",)))
    first = published(region.home)[0].files["qa"]
    stem = first.name.removesuffix(".qa.tif")
    names = [f"{stem}.{name}" for name in ("sr.vrt", "sd.vrt", "qa.tif", "origin.vrt", "age.tif", "red.tif")]
    rasters = [first.parent / name for name in names]
    rasters += [folder / "stacks" / f"small.T33UVP.{name}.tif" for name in ("ndvi", "ndvi_sd")]
    command = [PYTHON, SCRIPT, folder / "small.qgz", *rasters]
    env = ALONE | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["saved"] and told["opened"] and (folder / "small.qgz").stat().st_size > 0
    assert all(one["valid"] and one["crs"] == "EPSG:32633" for one in told["layers"].values())
    assert len(told["layers"]) == len(rasters)
    return {name.rsplit(".", 1)[1]: one for name, one in told["layers"].items()}


def test_bands_have_names_scale_and_nodata(layers: dict[str, Any]) -> None:
    assert [name.split(": ")[-1] for name in layers["sr"]["bands"]] == list(BANDS)
    assert (layers["sr"]["scale"], layers["sr"]["nodata"]) == (1e-4, FILL)
    assert (layers["red"]["scale"], layers["red"]["nodata"]) == (1e-4, FILL)
    assert (layers["ndvi"]["scale"], layers["ndvi"]["nodata"]) == (1e-4, INDEX_FILL)
    assert layers["ndvi"]["bands"] == ["Band 1: 2024-05-02"]


def test_each_layer_comes_in_its_style(layers: dict[str, Any]) -> None:
    assert (layers["sr"]["renderer"], layers["sr"]["rgb"]) == ("multibandcolor", [3, 2, 1])
    for name, span in (("sd", [0, 0.08]), ("age", [0, 64]), ("ndvi", [-0.1, 0.9]), ("ndvi_sd", [0, 0.2])):
        assert (layers[name]["renderer"], layers[name]["range"]) == ("singlebandpseudocolor", span), name
    assert layers["origin"]["renderer"] == layers["qa"]["renderer"] == "paletted"
    assert [colour for _, colour in layers["origin"]["classes"].values()] == [ORIGIN_COLOURS[code] for code in range(4)]
    assert layers["qa"]["classes"]["107"][0] == "prior only, snow, change suspected, low confidence"
    assert len(layers["qa"]["classes"]) == 160


def test_what_is_drawn_is_what_the_pixels_say(layers: dict[str, Any]) -> None:
    drawn = layers["origin"]["colours"]
    assert (drawn["first"], drawn["prior"]) == (ORIGIN_COLOURS[0], ORIGIN_COLOURS[3])
    assert layers["qa"]["colours"]["prior"] == ORIGIN_COLOURS[3]
    nothing = layers["red"]["colours"]["last"]
    assert all(layers[name]["colours"]["last"] == nothing for name in ("sr", "sd", "origin", "age", "ndvi"))
    assert layers["sd"]["colours"]["first"] == "#000004"  # observed: certain
    assert len({layers[name]["colours"]["first"] for name in ("sr", "ndvi", "origin", "sd")}) == 4
