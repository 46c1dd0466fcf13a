"""The product's names and numbers."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsat.hls import BANDS, COMMON_NAMES, FILES, FMASK_FILL, SENSORS, WAVELENGTH_UM, Fmask, GranuleId, SceneKey

tiles = st.from_regex(r"(0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", fullmatch=True)
sensors = st.sampled_from(SENSORS)
times = st.datetimes(datetime(2013, 4, 11), datetime(2099, 12, 31)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))


@given(sensors, tiles, times, st.sampled_from(["1.4", "1.5", "2.0", "2.1"]))
def test_granule_names_are_inverse(sensor: str, tile: str, acquired: datetime, version: str) -> None:
    granule = GranuleId(sensor, tile, acquired, version)
    assert GranuleId.from_string(str(granule)) == granule
    assert granule.scene == SceneKey(tile, acquired.date(), sensor)


@given(sensors, tiles, st.dates(date(2013, 4, 11), date(2099, 12, 31)))
def test_scene_keys_are_inverse(sensor: str, tile: str, day: date) -> None:
    key = SceneKey(tile, day, sensor)
    assert SceneKey.from_string(str(key)) == key


@pytest.mark.parametrize("name", ["HLS.L30.T19LBJ.2020239T144556.v2.0", "HLS.S30.T32TQM.2024366T101031.v2.0"])
def test_real_names(name: str) -> None:
    assert str(GranuleId.from_string(name)) == name
    assert GranuleId.from_string(name).has_time


def test_a_version_15_name_has_a_day_only() -> None:
    granule = GranuleId.from_string("HLS.L30.T10SFE.2019253.v1.5")
    assert (str(granule), granule.has_time) == ("HLS.L30.T10SFE.2019253.v1.5", False)
    assert granule.acquired == datetime(2019, 9, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "HLS.L31.T19LBJ.2020239T144556.v2.0",
        "HLS.L30.19LBJ.2020239T144556.v2.0",
        "HLS.L30.T19LBJ.2020239T144556.v2.0.B01",
        "HLS.L30.T19IBJ.2020239T144556.v2.0",
        "HLS.L30.T19LBJ.2023366T144556.v2.0",  # no such day
        "HLS.L30.T19LBJ.2020239T146056.v2.0",
        "HLS.L30.T19LBJ.2020239T144556.v2.0\n",
        "HLS.L30.T\u0661\u0669LBJ.2020239T144556.v2.0",  # digits of another script
        "../HLS.L30.T19LBJ.2020239T144556.v2.0",
        "",
    ],
)
def test_what_is_no_granule_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"HLS granule|does not match|unconverted|day of year|out of range"):
        GranuleId.from_string(name)


@pytest.mark.parametrize(
    "text", ["33UVP/2024-05-02", "33UVP/2024-02-30/L30", "33UVP/2024-05-02/L31", "../x/2024-05-02/L30", ""]
)
def test_what_is_no_scene_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"scene key|out of range|day"):
        SceneKey.from_string(text)


def test_scenes_sort_by_tile_day_and_sensor() -> None:
    keys = [SceneKey("33UVP", date(2024, 5, day), sensor) for day in (1, 2) for sensor in SENSORS]
    assert sorted(reversed(keys)) == keys


def test_the_narrow_near_infrared_and_no_thermal_band() -> None:
    assert FILES["S30"]["nir"] == "B8A"
    assert FILES["L30"]["nir"] == "B05"
    assert not {"B10", "B11"} & set(FILES["L30"].values())
    for table in (*FILES.values(), COMMON_NAMES, WAVELENGTH_UM):
        assert tuple(table) == BANDS
        assert len(set(table.values())) == len(BANDS)


def test_fmask_bits_are_those_of_version_2() -> None:
    assert [bit.value.bit_length() - 1 for bit in Fmask] == [1, 2, 3, 4, 5, 6, 7]
    assert all(Fmask(FMASK_FILL) & bit for bit in Fmask)  # why 255 is tested first
