"""A trained model wherever a method is named: fill, generate, evaluate."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from checkpoints import write_checkpoint
from test_fill_stage import cube

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.core.quality import unpack_qa
from vsat.errors import InputError
from vsat.io.publish import read_image
from vsat.methods import ANYDATE, METHODS, is_trained
from vsat.stages import compose
from vsat.stages.evaluate import BASELINES, fills_of
from vsat.stages.evaluate import evaluate as judge
from vsat.stages.fetch import fetch
from vsat.stages.fill import predict
from vsat.stages.generate import generate, plan_generate
from vsat.stages.models import weights_of

LATER = END + timedelta(60)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Region:
    """Fetched, with images of a checkpoint."""
    path = tiny(tmp_path_factory.mktemp("project"))
    path.write_text(path.read_text().replace("method: linear", f"method: {ANYDATE}:{checkpoint}"))
    region = load_region(path)
    fetch(region, START, END)
    report = generate(region, START, END, LATER)
    assert not report.failed and len(report.images) == 7
    return region


def test_names_of_methods() -> None:
    assert [name for name in METHODS if is_trained(name)] == [ANYDATE]
    assert is_trained("anydate:some/folder")
    for wrong in ("anydate:", "blendscene", "blend+scene:x", ""):
        with pytest.raises(InputError, match="unknown method"):
            is_trained(wrong)


def test_a_cube_is_filled_as_by_every_method(checkpoint: Path) -> None:
    given = cube()
    days = [date(2020, 4, 10), date(2020, 3, 17), date(2020, 4, 2)]
    out = predict(given, days, method=f"{ANYDATE}:{checkpoint}")
    by_linear = predict(given, days, method="linear+scene")
    for name in ("origin", "age"):
        assert (out[name].values == by_linear[name].values).all()
    for name in ("reflectance", "sd", "p05", "p25", "p75", "p95"):
        assert np.isfinite(out[name]).all() and out[name].dtype == np.float32
    seen = out["origin"].values == 0
    assert seen.any() and not seen.all()
    refl, other = (np.moveaxis(one["reflectance"].values, 1, -1) for one in (out, by_linear))
    assert (refl[seen] == other[seen]).all() and (refl[~seen] != other[~seen]).any()
    assert (out["p05"] <= out["p25"]).all() and (out["p75"] <= out["p95"]).all()


def test_some_bands_are_enough(checkpoint: Path) -> None:
    given = cube().isel(band=[2, 3])
    out = predict(given, [date(2020, 4, 10)], method=f"{ANYDATE}:{checkpoint}")
    assert out["band"].values.tolist() == ["red", "nir"] and np.isfinite(out["reflectance"]).all()


def test_joint_samples_come_along(checkpoint: Path) -> None:
    days = [date(2020, 4, 10), date(2020, 3, 17)]
    out = predict(cube(), days, method=f"{ANYDATE}:{checkpoint}", samples=40)
    assert out["samples"].dims == ("sample", "time", "band", "y", "x") and out.sizes["sample"] == 40
    seen = np.broadcast_to((out["origin"].values == 0)[:, None], out["reflectance"].shape)
    assert (out["samples"].values[:, seen] == out["reflectance"].values[seen]).all()
    inside = (out["samples"] >= out["p05"]) & (out["samples"] <= out["p95"])
    assert 0.8 < float(inside.values[:, ~seen].mean()) < 0.97
    alone = predict(cube(), days[:1], method=f"{ANYDATE}:{checkpoint}", samples=40)
    assert (alone["samples"].isel(time=0).values == out["samples"].isel(time=1).values).all()
    with pytest.raises(InputError, match="-1 samples"):
        predict(cube(), days, method="linear", samples=-1)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no any-date checkpoint") as caught:
        predict(cube(), [date(2020, 4, 10)], method=f"{ANYDATE}:{tmp_path / 'none'}")
    assert "vsat train" in str(caught.value)


def test_images_of_a_model_hold_what_was_seen_and_say_the_method(region: Region, checkpoint: Path) -> None:
    (grid,) = region.grids()
    filled = 0
    for day in (date(2023, 5, 1), date(2023, 5, 11), date(2023, 6, 10)):
        image = read_image(region.home, grid.tile, day)
        origin = unpack_qa(image.qa_yx).origin
        filled += int((origin != 0).sum())
        assert image.method == f"{ANYDATE}:{checkpoint.name}"
        assert (image.sd_byx[:, origin == 0] == 0).all() and (image.sd_byx[:, (origin == 1) | (origin == 2)] > 0).all()
    assert filled > 0


def test_a_second_run_makes_nothing_and_other_weights_make_all_again(region: Region, checkpoint: Path) -> None:
    assert not plan_generate(region, START, END, LATER).jobs
    before = weights_of(region.method)
    kept = (checkpoint / "model.safetensors").read_bytes()
    try:
        write_checkpoint(checkpoint, seed=1)
        assert weights_of(region.method) != before
        assert sum(len(job.dates) for job in plan_generate(region, START, END, LATER).jobs) == 7
    finally:
        (checkpoint / "model.safetensors").write_bytes(kept)


def test_windows_of_a_region_give_the_bytes_of_one(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of reading are no windows of the model: an image does not depend on how its cube is read."""
    (grid,) = region.grids()
    before = read_image(region.home, grid.tile, date(2023, 5, 11)).refl_byx.copy()
    monkeypatch.setattr(compose, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(compose, "CHUNK_PX", 16)
    generate(region, START, END, LATER, policy="replace")
    assert (read_image(region.home, grid.tile, date(2023, 5, 11)).refl_byx == before).all()


def test_the_judge_takes_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "cube.nc"
    rng = np.random.default_rng(0)
    looks = 40
    season = 1500 + 600 * np.sin(np.arange(looks) / 6)
    refl = (season[:, None, None, None] + rng.normal(0, 60, (looks, 6, 6, 6))).astype(np.int16)
    made = xr.Dataset(
        {"reflectance": (("time", "band", "y", "x"), refl, {"scale_factor": 1e-4}),
         "fmask": (("time", "y", "x"), np.full((looks, 6, 6), 64, np.uint8))},
        coords={"time": np.datetime64("2020-01-03", "ns") + np.arange(looks) * np.timedelta64(9, "D"),
                "sensor": ("time", ["S30"] * looks), "band": cube()["band"].values,
                "y": np.arange(6.0)[::-1], "x": np.arange(6.0)},
    )  # fmt: skip
    made.to_netcdf(path)
    method = f"{ANYDATE}:{checkpoint}"
    verdict, _ = judge([path], methods=(method,), protocols=("dates",), folds=1)
    (headline,) = [one for one in verdict.headlines if one.method == method]
    assert headline.best in BASELINES and np.isfinite(headline.ratio) and headline.cover90 is not None
    assert list(fills_of((method, "linear"))) == [method, "linear"]
