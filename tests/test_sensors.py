"""Offsets between sensors: those that were planted come back, and nothing is made of what is not there."""

import numpy as np
import pytest

from vsat.core.evidence import gather_evidence
from vsat.core.sensors import FEW_DATES, FEW_LOOKS, REACH_DAYS, measure_offsets, sensors_on
from vsat.hls import FILL, NO_SENSOR, SCALE, SENSORS, sensors_of

BANDS, SHAPE = 3, (4, 5)
Record = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def record(looks: int = 60, *, every: int = 6, slope: float = 0.0, share: float = 1.0, seed: int = 0) -> Record:
    """A ground that goes straight in time, seen by two sensors in turn: reflectance, clear, days, sensors."""
    rng = np.random.default_rng(seed)
    day = (19000 + every * np.arange(looks)).astype(np.int32)
    level = rng.uniform(800, 3000, (BANDS, *SHAPE))
    refl = np.rint(level + slope * (day - day[0])[:, None, None, None]).astype(np.int16)
    clear = rng.random((looks, *SHAPE)) < share
    return np.where(clear[:, None], refl, FILL).astype(np.int16), clear, day, (np.arange(looks) % 2).astype(np.uint8)


def planted(given: Record, offset_kb: np.ndarray) -> Record:
    """With what each sensor adds, x 1e-4."""
    refl, clear, day, sensor = given
    seen = np.where(clear[:, None], refl + offset_kb[sensor][..., None, None], FILL).astype(np.int16)
    return seen, clear, day, sensor


OFFSET = np.array([[120, -60, 0], [-40, 30, 0], [0, 0, 300]])


def test_what_two_sensors_differ_by_is_found_and_held_to_nothing_by_few_dates() -> None:
    looks = 60
    refl, clear, day, sensor = planted(record(looks, slope=2.0), OFFSET[:2])
    found = measure_offsets(refl, clear, day, sensor)
    assert found.kind_k.tolist() == [0, 1]
    dates = looks - 2  # the first and last look have no neighbour on one side
    wanted = (OFFSET[1] - OFFSET[0]) * SCALE * dates / (dates + FEW_DATES)
    difference = found.offset_kbyx[1] - found.offset_kbyx[0]
    np.testing.assert_allclose(difference, np.broadcast_to(wanted[:, None, None], difference.shape), atol=1e-6)
    np.testing.assert_allclose(found.offset_kbyx.sum(axis=0), 0, atol=1e-6)  # half of the looks are each one's


def test_the_mean_look_stays_where_one_sensor_looks_more_often() -> None:
    refl, clear, day, _ = record(60)
    sensor = (np.arange(60) % 3 > 0).astype(np.uint8)
    found = measure_offsets(*planted((refl, clear, day, sensor), OFFSET[:2]))
    np.testing.assert_allclose(found.offset_kbyx[0] + 2 * found.offset_kbyx[1], 0, atol=1e-6)
    assert abs(found.offset_kbyx[0]).max() > 1.5 * abs(found.offset_kbyx[1]).max() > 0


def test_a_difference_that_grows_with_reflectance_is_found_and_taken_out() -> None:
    looks = 60
    refl, clear, day, sensor = record(looks)
    gain = np.array([0.2, -0.1, 0.0])[:, None, None]
    seen = np.where((sensor == 1)[:, None, None, None], refl * (1 + gain), refl)
    seen = np.rint(seen + np.random.default_rng(2).normal(0, 20, refl.shape)).astype(np.int16)
    found = measure_offsets(seen, clear, day, sensor)
    wanted = (gain / (1 + gain / 2))[:, 0, 0]  # by the reflectance of the mean look
    np.testing.assert_allclose(found.gain_kb[1] - found.gain_kb[0], wanted, atol=0.01)
    level = found.taken_from(seen, sensor).astype(float)
    apart, before = (np.abs(one[0::2].mean(axis=0) - one[1::2].mean(axis=0)).mean(axis=(1, 2)) for one in (level, seen))
    assert (apart[:2] < 0.1 * before[:2]).all() and apart[2] < 5
    again = level * SCALE + found.of(sensor, (level * SCALE).astype(np.float32))
    np.testing.assert_allclose(again, seen * SCALE, atol=1.1 * SCALE)  # there and back, but for rounding


def test_a_gain_is_not_believed_of_few_dates_or_little_spread() -> None:
    rng = np.random.default_rng(3)
    refl, clear, day, sensor = record(14)
    noisy = (1500 + rng.normal(0, 60, refl.shape) + 100 * sensor[:, None, None, None]).astype(np.int16)
    found = measure_offsets(noisy, clear, day, sensor)
    assert np.abs(found.gain_kb).max() < 0.1
    short = measure_offsets(noisy[:6], clear[:6], day[:6], sensor[:6])
    assert short.offset_kbyx.any() and not short.gain_kb.any()


def test_a_pixel_leans_on_its_place_by_how_often_it_was_seen() -> None:
    refl, clear, day, sensor = planted(record(42), OFFSET[:2])
    refl[sensor == 1, :, 2, 3] += 100  # one pixel has another ground
    found = measure_offsets(refl, clear, day, sensor)
    difference = found.offset_kbyx[1] - found.offset_kbyx[0]
    own = difference[:, 2, 3] - difference[:, 0, 0]
    np.testing.assert_allclose(own, 100 * SCALE * 40 / (40 + FEW_LOOKS), atol=5e-5)


def test_leaked_cloud_does_not_move_it() -> None:
    refl, clear, day, sensor = planted(record(60), OFFSET[:2])
    odd = refl.copy()
    odd[4::9] += 4000
    one, two = (measure_offsets(values, clear, day, sensor) for values in (refl, odd))
    np.testing.assert_allclose(one.offset_kbyx, two.offset_kbyx, atol=0.0015)
    np.testing.assert_allclose(one.gain_kb, two.gain_kb, atol=0.02)


def test_what_is_not_clear_is_not_looked_at() -> None:
    refl, clear, day, sensor = planted(record(40, share=0.5), OFFSET[:2])
    other = np.where(clear[:, None], refl, np.random.default_rng(1).integers(-500, 9000, refl.shape)).astype(np.int16)
    one, two = (measure_offsets(values, clear, day, sensor) for values in (refl, other))
    assert one.offset_kbyx.tobytes() == two.offset_kbyx.tobytes() and one.offset_kbyx.any()


@pytest.mark.parametrize("sensor", [np.zeros(40, np.uint8), np.full(40, NO_SENSOR, np.uint8)])
def test_one_sensor_or_none_that_is_known_has_no_offset(sensor: np.ndarray) -> None:
    refl, clear, day, both = planted(record(40), OFFSET[:2])
    found = measure_offsets(refl, clear, day, sensor)
    assert not found.offset_kbyx.any() and found.taken_from(refl, sensor) is refl
    level = np.ones(refl.shape, np.float32)
    assert not found.of(both, level).any() and found.of(both, level).shape == refl.shape


def test_looks_too_far_apart_say_nothing() -> None:
    near, far = (
        measure_offsets(*planted(record(40, every=every), OFFSET[:2])) for every in (REACH_DAYS, REACH_DAYS + 1)
    )
    assert near.offset_kbyx.any() and not far.offset_kbyx.any() and not far.gain_kb.any()


def test_a_window_without_a_clear_look_has_no_offset() -> None:
    refl, clear, day, sensor = record(10)
    assert not measure_offsets(refl, np.zeros_like(clear), day, sensor).offset_kbyx.any()


def test_each_of_three_sensors_has_its_own() -> None:
    refl, clear, day, _ = record(120, every=3)
    sensor = np.array([0, 1, 0, 7], np.uint8)[np.arange(120) % 4]
    slot = np.searchsorted([0, 1, 7], sensor)
    refl = (refl + OFFSET[slot][..., None, None]).astype(np.int16)
    found = measure_offsets(refl, clear, day, sensor)
    assert found.kind_k.tolist() == [0, 1, 7]
    difference = (found.offset_kbyx - found.offset_kbyx[:1])[..., 0, 0]
    np.testing.assert_allclose(difference, (OFFSET - OFFSET[:1]) * SCALE, atol=0.002)
    never = np.array([3, NO_SENSOR], np.uint8)
    assert not found.of(never, np.ones((2, BANDS, *SHAPE), np.float32)).any()
    level = found.taken_from(refl, sensor)
    assert np.ptp(level, axis=0).max() < 0.15 * np.ptp(refl, axis=0).max()


def test_the_sensor_of_a_day_is_the_one_that_looked() -> None:
    day, sensor = np.array([3, 5, 5, 8, 8, 9], np.int32), np.array([0, 0, 1, 1, 1, NO_SENSOR], np.uint8)
    assert sensors_on(np.array([3, 4, 5, 8, 9]), day, sensor).tolist() == [0, NO_SENSOR, NO_SENSOR, 1, NO_SENSOR]


def test_other_sensors_have_numbers_of_their_own() -> None:
    assert sensors_of(["S30", "LE07", "", "L30", "LT05", "LE07"]).tolist() == [1, 2, NO_SENSOR, 0, 3, 2]
    many = sensors_of([f"s{n:03}" for n in range(300)])
    assert many[:3].tolist() == [2, 3, 4] and many.max() == many[-1] == NO_SENSOR
    assert (many == NO_SENSOR).sum() == 300 - (NO_SENSOR - len(SENSORS))


# -- in the evidence


def test_estimates_are_those_of_the_sensor_that_looked_on_the_day() -> None:
    refl, clear, day, sensor = planted(record(60), OFFSET[:2])
    hidden = [20, 31]  # of sensors 0 and 1
    truth = refl[hidden] * SCALE
    clear[hidden] = False
    refl[~clear[:, None].repeat(BANDS, 1)] = FILL
    query = np.append(day[hidden], day[31] + 2).astype(np.int32)
    blind, told = (gather_evidence(refl, clear, day, query, sensor_t=known) for known in (None, sensor))
    assert told.sensor_q.tolist() == [0, 1, NO_SENSOR] and blind.sensor_q.tolist() == [NO_SENSOR] * 3
    dates = 60 - 6  # the ends, the hidden ones, and their neighbours, which have gone from one side
    least = 1 - dates / (dates + FEW_DATES)
    for name in ("base_qbyx", "blend_qbyx"):
        off, before = (np.abs(getattr(one, name)[:2] - truth)[:, :2].max() for one in (told, blind))
        assert off < (least + 0.05) * before and before > 0.006
    np.testing.assert_allclose(told.base_qbyx[2], (truth[0] + truth[1]) / 2, atol=0.0015)  # nobody looked: in between
    assert np.abs(told.rest_tbyx).mean() < 0.3 * np.abs(blind.rest_tbyx).mean()


def test_a_hidden_look_lends_its_sensor_and_nothing_else() -> None:
    refl, clear, day, sensor = planted(record(40), OFFSET[:2])
    clear[11] = False
    other = refl.copy()
    other[11] = 7777
    one, two = (gather_evidence(values, clear, day, day[[11]], sensor_t=sensor) for values in (refl, other))
    assert one.base_qbyx.tobytes() == two.base_qbyx.tobytes()
    swapped = np.where(np.arange(40) == 11, 1 - sensor, sensor).astype(np.uint8)
    three = gather_evidence(refl, clear, day, day[[11]], sensor_t=swapped)
    assert np.abs(three.base_qbyx - one.base_qbyx).max() > 0.005


def test_sensors_that_are_told_go_before_those_of_the_looks() -> None:
    refl, clear, day, sensor = planted(record(40), OFFSET[:2])
    asked = np.array([1], np.uint8)
    as_seen, as_told = (
        gather_evidence(refl, clear, day, day[[10]], sensor_t=sensor, sensor_q=told) for told in (None, asked)
    )
    offsets = measure_offsets(refl, clear, day, sensor)
    moved = as_told.base_qbyx - as_seen.base_qbyx
    wanted = np.diff(offsets.of(np.arange(2, dtype=np.uint8), np.tile(as_seen.base_qbyx, (2, 1, 1, 1))), axis=0)
    np.testing.assert_allclose(moved, wanted, atol=2e-4)
    assert np.abs(moved).max() > 0.01 and as_told.sensor_q.tolist() == [1] and as_seen.sensor_q.tolist() == [0]
