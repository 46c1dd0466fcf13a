"""Temporal estimates against plain numpy twins, and what holds for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core import temporal
from vsat.core.looks import KNOTS_DAYS, bridge_days, knot_shares
from vsat.core.robust import FLOOR_DN, TRIM
from vsat.core.temporal import MEMBERS, fill_temporal
from vsat.hls import FILL

METHODS = ("linear", "whittaker", "harmonic", "blend")


def series(seed: int = 0, looks: int = 40, shape: tuple[int, int] = (3, 7), span: int = 500, share: float = 0.6):
    """Days, int16 reflectance with season and noise, mask with at least two looks a pixel."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.choice(span, looks, replace=False)).astype(np.int32) + 19000
    wave = 1500 + 700 * np.sin(day[:, None, None, None] / 58.0 + rng.random((1, 3, *shape)))
    refl = (wave + rng.normal(0, 40, (looks, 3, *shape))).astype(np.int16)
    clear = rng.random((looks, *shape)) < share
    clear[[0, looks // 2]] = True
    refl[~clear.repeat(3, 0).reshape(looks, 3, *shape)] = FILL
    return refl, clear, day


# -- plain twins, one pixel


def slow_weights(residual: np.ndarray) -> np.ndarray:
    """Bisquare weights of looks from their residuals (t, b)."""
    size = (np.abs(residual) / (np.abs(residual).mean(axis=0) + FLOOR_DN)).mean(axis=1)
    level = size.mean()
    for _ in range(2):
        level = size[size <= TRIM * level].mean()
    return (1 - np.minimum(size / (temporal.TUNING * max(level, 0.05)), 1) ** 2) ** 2


def slow_whittaker(day: np.ndarray, y: np.ndarray, query: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Dense solve of the same problem; `span` is the first and last day of all looks and queries."""
    nodes = max(4, int((span[1] - span[0]) / temporal.STEP_DAYS) + 2)
    rows = place(day, span[0], nodes)
    d = np.diff(np.eye(nodes), 2, axis=0)
    mean, w = y.mean(axis=0), np.ones(len(day))
    for _ in range(temporal.ROUNDS):
        a = rows.T @ (w[:, None] * rows) + temporal.LAMBDA * d.T @ d + temporal.TO_MEAN * np.eye(nodes)
        x = np.linalg.solve(a, rows.T @ (w[:, None] * (y - mean)))
        used, w = w, slow_weights(y - mean - rows @ x)
    first, last = day[used > 0][0], day[used > 0][-1]
    when = query.astype(float)
    early, late = when < first, when > last
    when[early] = first - temporal.DAMP_DAYS * (1 - np.exp((when[early] - first) / temporal.DAMP_DAYS))
    when[late] = last + temporal.DAMP_DAYS * (1 - np.exp((last - when[late]) / temporal.DAMP_DAYS))
    return mean + place(when, span[0], nodes) @ x


def place(day: np.ndarray, start: int, nodes: int) -> np.ndarray:
    """Linear weights of the grid's nodes for each day."""
    at = (day - start) / temporal.STEP_DAYS
    g = np.minimum(at.astype(int), nodes - 2)
    rows = np.zeros((len(day), nodes))
    rows[np.arange(len(day)), g], rows[np.arange(len(day)), g + 1] = 1 - (at - g), at - g
    return rows


def slow_harmonic(day: np.ndarray, y: np.ndarray, query: np.ndarray, centre: float) -> np.ndarray:
    """Weighted ridge least squares."""

    def basis(t: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * t / 365.25
        waves = [f(k * angle) for k in range(1, temporal.TERMS // 2) for f in (np.sin, np.cos)]
        return np.stack([np.ones(len(t)), (t - centre) / 1000, *waves], axis=1)

    b, w, mean = basis(day.astype(float)), np.ones(len(day)), y.mean(axis=0)
    for _ in range(temporal.ROUNDS):
        ridge = temporal.RIDGE * w.sum() * np.diag([0.0] + [1.0] * (temporal.TERMS - 1)) + 1e-9 * np.eye(temporal.TERMS)
        coef = np.linalg.solve(b.T @ (w[:, None] * b) + ridge, b.T @ (w[:, None] * (y - mean)))
        w = slow_weights(y - mean - b @ coef)
    return mean + basis(query.astype(float)) @ coef


@pytest.mark.parametrize("method", ["linear", "whittaker", "harmonic"])
def test_against_the_plain_twin(method: str) -> None:
    refl, clear, day = series()
    query = np.arange(day[0] - 30, day[-1] + 30, 13, dtype=np.int32)
    span = (int(min(day[0], query[0])), int(max(day[-1], query[-1])))
    found = fill_temporal(refl, clear, day, query, method=method).refl_qbyx
    for y, x in np.ndindex(3, 7):
        ok = clear[:, y, x]
        values = refl[ok, :, y, x].astype(float)
        match method:
            case "linear":
                plain = np.stack([np.interp(query, day[ok], values[:, b]) for b in range(3)], axis=1)
            case "whittaker":
                plain = slow_whittaker(day[ok], values, query, span)
            case _:
                plain = slow_harmonic(day[ok], values, query, (span[0] + span[1]) / 2)
        plain = np.clip(plain, values.min(axis=0), values.max(axis=0))
        np.testing.assert_allclose(found[:, :, y, x], plain, atol=0.51)  # half a digital number: rounding only


def test_harmonic_of_a_long_record_sees_its_window_only() -> None:
    rng = np.random.default_rng(3)
    day = np.arange(0, 20 * 365, 16, dtype=np.int32)
    level = np.where(day < 3650, 1000, 3000)  # a lasting change in the middle of the record
    refl = (level + rng.normal(0, 5, len(day))).astype(np.int16)[:, None, None, None]
    query = np.array([800, 6500], np.int32)
    found = fill_temporal(refl, np.ones((len(day), 1, 1), bool), day, query, method="harmonic").refl_qbyx[:, 0, 0, 0]
    np.testing.assert_allclose(found, [1000, 3000], atol=15)


# -- what holds for all methods


@pytest.mark.parametrize("method", METHODS)
def test_values_under_the_mask_are_never_used(method: str) -> None:
    refl, clear, day = series(1)
    other = refl.copy()
    other[~clear[:, None].repeat(3, 1)] = 20000
    query = day[::5] + 3
    one, two = (fill_temporal(r, clear, day, query, method=method).refl_qbyx for r in (refl, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("method", METHODS)
def test_a_pixel_does_not_depend_on_its_neighbours(method: str) -> None:
    refl, clear, day = series(2, shape=(5, 9))
    query = np.array([day[3], day[10] + 1, day[-1] + 40], np.int32)
    whole = fill_temporal(refl, clear, day, query, method=method).refl_qbyx
    alone = fill_temporal(refl[:, :, 2:3, 4:5], clear[:, 2:3, 4:5], day, query, method=method).refl_qbyx
    np.testing.assert_array_equal(whole[:, :, 2:3, 4:5], alone)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_queries_does_not_matter(method: str) -> None:
    refl, clear, day = series(3)
    query = np.arange(day[0], day[-1], 29, dtype=np.int32)
    mixed = np.random.default_rng(0).permutation(len(query))
    one = fill_temporal(refl, clear, day, query, method=method)
    two = fill_temporal(refl, clear, day, query[mixed], method=method)
    np.testing.assert_array_equal(one.refl_qbyx[mixed], two.refl_qbyx)
    np.testing.assert_array_equal(one.nearest_qyx[mixed], two.nearest_qyx)


@pytest.mark.parametrize(("method", "apart"), [("linear", 0), ("whittaker", 60), ("harmonic", 15), ("blend", 40)])
def test_excluded_days_are_not_seen(method: str, apart: int) -> None:
    """Up to the robust weights, which come from all looks: leaving out is exact for clean data within `apart`."""
    refl, clear, day = series(4, share=0.9)
    query = day[4:-4:6]
    fast = fill_temporal(refl, clear, day, query, method=method, exclude_days=0).refl_qbyx.astype(int)
    for n, q in enumerate(query):
        left = clear & (day != q)[:, None, None]
        plain = fill_temporal(refl, left, day, query[n : n + 1], method=method).refl_qbyx[0].astype(int)
        assert np.abs(fast[n] - plain).max() <= apart
        assert np.abs(fast[n] - plain).mean() <= apart / 8 + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_an_excluded_outlier_does_not_pull(method: str) -> None:
    refl, clear, day = series(5, share=1.0)
    other = refl.copy()
    other[12] += 6000  # cloud that the mask missed
    query = day[12:13]
    one, two = (fill_temporal(r, clear, day, query, method=method, exclude_days=0).refl_qbyx for r in (refl, other))
    assert np.abs(one.astype(int) - two).mean() < 40


@pytest.mark.parametrize("method", ["whittaker", "harmonic"])
def test_robust_methods_shrug_off_leaked_cloud(method: str) -> None:
    refl, clear, day = series(6, share=1.0)
    other = refl.copy()
    other[[7, 20, 31]] += 5000
    query = day + 2
    one, two = (fill_temporal(r, clear, day, query, method=method).refl_qbyx.astype(int) for r in (refl, other))
    assert np.abs(one - two).mean() < 40


def test_repeated_days_are_one_look() -> None:
    refl = np.array([1000, 1200, 9000, 2000], np.int16).reshape(4, 1, 1, 1)
    clear = np.array([True, True, False, True]).reshape(4, 1, 1)
    day = np.array([10, 10, 10, 20], np.int32)
    found = fill_temporal(refl, clear, day, np.array([10, 15], np.int32), method="linear")
    assert found.refl_qbyx.ravel().tolist() == [1100, 1550]
    assert found.count_qyx.ravel().tolist() == [2, 2]
    assert found.nearest_qyx.ravel().tolist() == [0, 0]
    second = fill_temporal(
        refl, clear & (np.arange(4) != 0)[:, None, None], day, np.array([10], np.int32), method="linear"
    )
    assert second.nearest_qyx.item() == 1


def test_neighbours_ages_and_counts() -> None:
    day = np.array([0, 10, 40], np.int32)
    clear = np.ones((3, 1, 2), bool)
    clear[:, 0, 1] = False
    refl = np.full((3, 2, 1, 2), 500, np.int16)
    query = np.array([-5, 0, 24, 26, 41], np.int32)
    found = fill_temporal(refl, clear, day, query, method="linear")
    assert found.last_qyx[:, 0, 0].tolist() == [-1, 0, 14, 16, 1]
    assert found.next_qyx[:, 0, 0].tolist() == [5, 0, 16, 14, -1]
    assert found.nearest_qyx[:, 0, 0].tolist() == [0, 0, 1, 2, 2]
    assert found.count_qyx[:, 0, 0].tolist() == [3] * 5
    hidden = fill_temporal(refl, clear, day, query, method="linear", exclude_days=5)
    assert hidden.last_qyx[:, 0, 0].tolist() == [-1, -1, 14, 16, 31]
    assert hidden.count_qyx[:, 0, 0].tolist() == [2, 2, 3, 3, 2]
    for none in (found.last_qyx, found.next_qyx, found.nearest_qyx):
        assert (none[:, 0, 1] == -1).all()
    assert (found.count_qyx[:, 0, 1] == 0).all()
    assert (found.refl_qbyx[:, :, 0, 1] == FILL).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("looks", [0, 1, 2, 3])
def test_few_looks(method: str, looks: int) -> None:
    refl = np.full((looks, 6, 2, 2), 1234, np.int16)
    day = np.arange(looks, dtype=np.int32) * 16
    query = np.array([-400, 7, 900], np.int32)
    found = fill_temporal(refl, np.ones((looks, 2, 2), bool), day, query, method=method).refl_qbyx
    assert (found == (1234 if looks else FILL)).all()


def test_no_queries() -> None:
    refl, clear, day = series()
    assert fill_temporal(refl, clear, day, np.empty(0, np.int32), method="blend").refl_qbyx.shape == (0, 3, 3, 7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exclude", [None, 0, 20])
def test_no_estimate_beyond_what_the_looks_span(method: str, exclude: int | None) -> None:
    refl, clear, day = series(8, looks=14)
    query = np.unique(np.concatenate([day, np.arange(day[0] - 300, day[-1] + 300, 23, dtype=np.int32)]))
    found = fill_temporal(refl, clear, day, query, method=method, exclude_days=exclude).refl_qbyx
    for q, when in enumerate(query):
        seen = clear & (np.abs(day - when) > (-1 if exclude is None else exclude))[:, None, None]
        shown = np.where(seen[:, None], refl.astype(float), np.nan)
        has = seen.any(axis=0)
        low, high = np.nanmin(shown[:, :, has], axis=0), np.nanmax(shown[:, :, has], axis=0)
        assert (found[q][:, has] >= low).all()
        assert (found[q][:, has] <= high).all()
        assert (found[q][:, ~has] == FILL).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_field_first_seen_in_steep_change_was_not_below_zero_before(method: str) -> None:
    """Red of a field whose first four looks fall into one dry week: the slope must not go on backwards."""
    day = np.array([105, 107, 112, 113], np.int32)
    red = np.array([229, 295, 740, 876], np.int16)[:, None, None, None]
    query = np.arange(40, 105, 5, dtype=np.int32)
    found = fill_temporal(red, np.ones((4, 1, 1), bool), day, query, method=method).refl_qbyx
    assert found.min() >= 229


def test_the_blend_is_the_mean_its_weights_say() -> None:
    refl, clear, day = series(9)
    query = day[3:-3:4] + 1
    for m, name in enumerate(MEMBERS[:3]):
        only = tuple(tuple(float(m == i) for i in range(len(MEMBERS))) for _ in KNOTS_DAYS)
        blend = fill_temporal(refl, clear, day, query, method="blend", mix=only).refl_qbyx
        np.testing.assert_allclose(blend, fill_temporal(refl, clear, day, query, method=name).refl_qbyx, atol=1)


@given(st.lists(st.integers(-1, 3000), min_size=2, max_size=2))
@settings(max_examples=50)
def test_gaps_and_their_shares(sides: list[int]) -> None:
    last, following = np.array([sides[0]], np.int16), np.array([sides[1]], np.int16)
    gap = bridge_days(last, following)
    shares = knot_shares(gap)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    known = [max(s, 0.5) for s in sides if s >= 0]
    assert gap[0] == pytest.approx(1 / sum(1 / k for k in known) if known else np.inf)
