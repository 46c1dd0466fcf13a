"""Evidence against plain loops, and what of a record it must not lean on."""

from dataclasses import fields

import numpy as np
import pytest

from vsat.core.evidence import COURSE_DAYS, FAR_DAYS, LEAST_SCALE, NEAR_PX, WIDE_PX, Evidence, gather_evidence
from vsat.core.kriging import LEAST_CLEAR, krige
from vsat.core.looks import KNOTS_DAYS
from vsat.core.temporal import MEMBERS, fill_members, fill_temporal
from vsat.hls import FILL, SCALE

Record = tuple[np.ndarray, np.ndarray, np.ndarray]
BANDS, SHAPE = 2, (7, 18)
ALONE, NEVER = (3, 4), (5, 16)  # pixels with one clear look and with none


def record(seed: int = 0, looks: int = 24, share: float = 0.6) -> Record:
    """Reflectance with season, field and noise, and a mask; days once each."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.choice(400, looks, replace=False)).astype(np.int32) + 19000
    wave = 1800 + 600 * np.sin(day[:, None, None, None] / 58.0 + rng.random((1, BANDS, *SHAPE)))
    refl = (wave + rng.normal(0, 60, (looks, 1, 1, 1)) + rng.normal(0, 40, (looks, BANDS, *SHAPE))).astype(np.int16)
    clear = rng.random((looks, *SHAPE)) < share
    clear[:, ALONE[0], ALONE[1]] = np.arange(looks) == 7
    clear[:, NEVER[0], NEVER[1]] = False
    clear[3] = False
    clear[4] = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) < LEAST_CLEAR - 1
    refl[~clear[:, None].repeat(BANDS, 1)] = FILL
    return refl, clear, day


def queries_of(day: np.ndarray) -> np.ndarray:
    """The days of some looks, days between them, and days beyond both ends."""
    return np.unique(np.concatenate([day[1:-1:2], day[::5] + 3, [day[0] - 20, day[-1] + 30]])).astype(np.int32)


@pytest.fixture(scope="module")
def found() -> Evidence:
    refl, clear, day = record()
    return gather_evidence(refl, clear, day, queries_of(day))


def assert_same(one: Evidence, two: Evidence, *, but: tuple[str, ...] = ()) -> None:
    for field in fields(Evidence):
        if field.name not in but:
            a, b = getattr(one, field.name), getattr(two, field.name)
            assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
            assert a.tobytes() == b.tobytes(), field.name


# -- members in one go


@pytest.mark.parametrize("exclude_days", [None, 0, 5])
def test_members_in_one_go_are_those_of_fill_temporal(exclude_days: int | None) -> None:
    refl, clear, day = record(1)
    query = queries_of(day)
    members, blend = fill_members(refl, clear, day, query, exclude_days=exclude_days)
    assert members.shape == (len(MEMBERS), len(query), BANDS, *SHAPE)
    for m, name in enumerate(MEMBERS):
        only = tuple(tuple(float(m == i) for i in range(len(MEMBERS))) for _ in KNOTS_DAYS)
        alone = fill_temporal(refl, clear, day, query, method="blend", mix=only, exclude_days=exclude_days)
        np.testing.assert_array_equal(members[m], alone.refl_qbyx, err_msg=name)
    for m, name in enumerate(MEMBERS[:3]):
        alone = fill_temporal(refl, clear, day, query, method=name, exclude_days=exclude_days)
        np.testing.assert_array_equal(members[m], alone.refl_qbyx, err_msg=name)
    whole = fill_temporal(refl, clear, day, query, method="blend", exclude_days=exclude_days)
    np.testing.assert_array_equal(blend, whole.refl_qbyx)
    assert (members[:, :, :, NEVER[0], NEVER[1]] == FILL).all()


# -- what does not lean on what


def test_hidden_values_change_nothing_at_all(found: Evidence) -> None:
    refl, clear, day = record()
    wild = np.random.default_rng(9).integers(-9999, 16000, refl.shape)
    other = np.where(clear[:, None], refl, wild).astype(np.int16)
    assert_same(found, gather_evidence(other, clear, day, queries_of(day)))


def test_a_rest_is_the_look_less_a_blend_without_it(found: Evidence) -> None:
    refl, clear, day = record()
    days = np.union1d(day, queries_of(day)).astype(np.int32)
    blend = fill_temporal(refl, clear, day, days, method="blend", exclude_days=0).refl_qbyx[np.searchsorted(days, day)]
    known = clear & (blend[:, 0] != FILL)
    plain = np.where(known[:, None], (refl.astype(int) - blend) * SCALE, 0)
    np.testing.assert_allclose(found.rest_tbyx, plain, atol=1e-6)
    assert clear[7, *ALONE] and not known[:, *ALONE].any(), "one look has nothing to be compared with"
    assert not found.rest_tbyx[:, :, ALONE[0], ALONE[1]].any()
    np.testing.assert_array_equal(found.clear_tyx, clear)
    np.testing.assert_allclose(found.refl_tbyx, np.where(clear[:, None], refl * SCALE, 0), atol=1e-6)


def test_a_look_moves_its_own_rest_and_no_estimate_of_its_day(found: Evidence) -> None:
    """By linear exactly; robust weights and the season under the departures are those of all looks, and move a little."""
    refl, clear, day = record()
    query, t, y, x = queries_of(day), 11, 2, 9
    q = int(np.searchsorted(query, day[t]))
    assert query[q] == day[t]
    other, mask = refl.copy(), clear.copy()
    mask[t, y, x] = True
    other[t, :, y, x] = 1500
    moved = other.copy()
    moved[t, :, y, x] += 100
    one, two = (gather_evidence(r, mask, day, query) for r in (other, moved))
    shift = np.abs(two.peers_mqbyx - one.peers_mqbyx)[:, q, :, y, x].max(axis=1)
    assert shift[MEMBERS.index("linear")] == 0
    assert shift.max() < 0.004
    assert np.abs(two.blend_qbyx - one.blend_qbyx)[q, :, y, x].max() < 0.001
    np.testing.assert_allclose((two.rest_tbyx - one.rest_tbyx)[t, :, y, x], 0.01, atol=0.001)
    others = np.ones(SHAPE, bool)
    others[y, x] = False
    for name in ("peers_mqbyx", "blend_qbyx", "rest_tbyx", "refl_tbyx", "last_qyx", "next_qyx", "count_yx"):
        np.testing.assert_array_equal(getattr(one, name)[..., others], getattr(two, name)[..., others], err_msg=name)
    assert (one.base_qbyx[q][:, others] != two.base_qbyx[q][:, others]).any(), "by kriging it speaks for the others"
    silent = np.setdiff1d(np.arange(len(query)), np.flatnonzero(np.isin(query, day)))
    np.testing.assert_array_equal(one.base_qbyx[silent], one.blend_qbyx[silent])


def test_a_pixel_hidden_on_a_day_is_estimated_as_if_it_had_never_been_seen(found: Evidence) -> None:
    """The truth of a target may be anything, and so may its neighbours' on other days that are hidden from all."""
    refl, clear, day = record()
    query, t = queries_of(day), 9
    hidden = clear.copy()
    hidden[t] = False
    other = refl.copy()
    other[t] = 12000
    one, two = gather_evidence(refl, hidden, day, query), gather_evidence(other, hidden, day, query)
    assert_same(one, two)
    q = int(np.searchsorted(query, day[t]))
    assert query[q] == day[t]
    np.testing.assert_array_equal(one.base_qbyx[q], one.blend_qbyx[q])
    assert not one.error_qbyx[q].any()
    assert found.error_qbyx[q].any()


# -- the neighbourhood


@pytest.mark.parametrize("side", [NEAR_PX, WIDE_PX])
def test_means_around_are_those_of_a_plain_loop(found: Evidence, side: int) -> None:
    name = "near" if side == NEAR_PX else "wide"
    mean, share = getattr(found, f"{name}_tbyx"), getattr(found, f"{name}_tyx")
    known = found.clear_tyx.copy()
    known[:, *ALONE] = False
    half = side // 2
    for t, y, x in np.ndindex(share.shape):
        part = (slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1))
        ok = known[t][part]
        assert share[t, y, x] == pytest.approx(ok.sum() / side**2, abs=1e-5)
        plain = found.rest_tbyx[t][:, *part][:, ok].mean(axis=1) if ok.any() else np.zeros(BANDS)
        np.testing.assert_allclose(mean[t, :, y, x], plain, atol=1e-5)


def test_a_querys_day_has_its_own_neighbourhood(found: Evidence) -> None:
    for q, day in enumerate(found.query_q):
        own = np.flatnonzero(found.day_t == day)
        for name in ("near", "wide"):
            for axes in ("byx", "yx"):
                here = getattr(found, f"day_{name}_q{axes}")[q]
                there = getattr(found, f"{name}_t{axes}")
                np.testing.assert_array_equal(here, there[own[0]] if own.size else np.zeros_like(here))


# -- days, pixels, neighbours


def test_repeated_days_are_one_look() -> None:
    refl, clear, day = record(2)
    twice = np.insert(day, 6, day[6])
    low, high = refl.copy(), refl.copy()
    low[6], high[6] = refl[6] - 40, refl[6] + 40
    both = np.insert(low, 7, high[6], axis=0)
    query = queries_of(day)
    one = gather_evidence(refl, clear, day, query)
    two = gather_evidence(both, np.insert(clear, 6, clear[6], axis=0), twice, query)
    assert_same(one, two)


def test_each_half_of_a_repeated_day_counts_where_it_is_clear() -> None:
    refl, clear, day = record(3)
    clear[6] = True
    refl[6] = 2000
    left = np.broadcast_to(np.arange(SHAPE[1]) < 8, SHAPE)
    apart = np.insert(clear, 6, clear[6] & left, axis=0)
    apart[7] &= ~left
    one = gather_evidence(refl, clear, day, queries_of(day))
    two = gather_evidence(np.insert(refl, 6, refl[6], axis=0), apart, np.insert(day, 6, day[6]), queries_of(day))
    assert_same(one, two)


def test_pixels_without_looks_are_zeros(found: Evidence) -> None:
    y, x = NEVER
    assert found.count_yx[y, x] == 0
    for name in ("refl_tbyx", "rest_tbyx", "peers_mqbyx", "blend_qbyx", "base_qbyx", "error_qbyx"):
        assert not getattr(found, name)[..., y, x].any(), name
    assert (found.last_qyx[:, y, x] == FAR_DAYS).all()
    assert (found.next_qyx[:, y, x] == FAR_DAYS).all()
    for field in fields(Evidence):
        assert np.isfinite(getattr(found, field.name)).all(), field.name


def test_looks_before_and_after_by_a_plain_loop() -> None:
    refl, clear, day = record(4)
    day[-1] = day[-2] + 2600  # farther than is told apart
    query = queries_of(day)
    found = gather_evidence(refl, clear, day, query)
    np.testing.assert_array_equal(found.count_yx, clear.sum(axis=0))
    assert found.count_yx.dtype == found.last_qyx.dtype == found.next_qyx.dtype == np.int16
    for q, y, x in np.ndindex(found.last_qyx.shape):
        seen = day[clear[:, y, x]].astype(int)
        before, after = query[q] - seen[seen < query[q]], seen[seen > query[q]] - query[q]
        assert found.last_qyx[q, y, x] == min(before.min(initial=FAR_DAYS), FAR_DAYS)
        assert found.next_qyx[q, y, x] == min(after.min(initial=FAR_DAYS), FAR_DAYS)
    assert (found.last_qyx[0] == FAR_DAYS).all()
    assert (found.next_qyx[-1] == FAR_DAYS).all()
    assert (found.last_qyx > 0).all()
    assert (found.next_qyx > 0).all()


# -- base and scales


def test_base_is_the_blend_unless_the_day_has_clear_pixels(found: Evidence) -> None:
    refl, clear, day = record()
    index = [MEMBERS.index(name) for name in ("linear", "harmonic", "departures")]
    kriged = 0
    for q, when in enumerate(found.query_q):
        own = np.flatnonzero(day == when)
        if own.size and clear[own[0]].sum() >= LEAST_CLEAR:
            t = int(own[0])
            blend, peers = (np.rint(one / SCALE).astype(np.int16) for one in (found.blend_qbyx, found.peers_mqbyx))
            never = np.zeros(SHAPE, bool)
            never[NEVER] = True
            if day[7] == when:
                never[ALONE] = True
            base = np.where(never, FILL, blend[q]).astype(np.int16)
            around = np.array([when + days for days in COURSE_DAYS], np.int32)
            rest = (np.delete(one, t, axis=0) for one in (refl, clear, day))  # without the day's own look
            course = fill_temporal(*rest, around, method="linear").refl_qbyx
            here = [base, *(np.where(never, FILL, peers[m, q]).astype(np.int16) for m in index)]
            alike = np.concatenate([*here, *np.where(course == FILL, base, course)])
            done = krige(base, alike, refl[t], clear[t])
            np.testing.assert_array_equal(found.base_qbyx[q], np.nan_to_num(done.refl_byx))
            np.testing.assert_array_equal(found.error_qbyx[q], np.nan_to_num(done.error_byx))
            kriged += 1
        else:
            np.testing.assert_array_equal(found.base_qbyx[q], found.blend_qbyx[q])
            assert not found.error_qbyx[q].any()
    assert 5 < kriged < len(found.query_q)
    silent = gather_evidence(refl, clear, day, day[3:5])  # a day without and one with too few clear pixels
    np.testing.assert_array_equal(silent.base_qbyx, silent.blend_qbyx)
    assert not silent.error_qbyx.any()


def test_scale_and_miss_by_their_formulas(found: Evidence) -> None:
    refl, clear, day = record()
    days = np.union1d(day, queries_of(day)).astype(np.int32)
    members, _ = fill_members(refl, clear, day, days, exclude_days=0)
    known = clear.copy()
    known[:, *ALONE] = False
    gap = np.abs(refl.astype(int) - members[:, np.searchsorted(days, day)]) * SCALE
    gap = np.where(known[:, None], gap, 0).mean(axis=2).sum(axis=1)  # member, y, x
    own, count = np.abs(found.rest_tbyx).sum(axis=0), known.sum(axis=0)
    half = WIDE_PX // 2
    for y, x in [(0, 0), (3, 9), ALONE, NEVER, (6, 17)]:
        part = (slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1))
        around = own[:, *part].sum(axis=(1, 2)) / count[part].sum()
        plain = (own[:, y, x] + 8 * around) / (count[y, x] + 8) + LEAST_SCALE
        np.testing.assert_allclose(found.scale_byx[:, y, x], plain, rtol=1e-4)
        least = LEAST_SCALE * max(count[part].sum() / WIDE_PX**2, 1)
        theirs, blend = gap[:, *part].sum(axis=(1, 2)) / WIDE_PX**2, own[:, *part].mean(axis=0).sum() / WIDE_PX**2
        np.testing.assert_allclose(
            found.miss_myx[:, y, x], np.log((theirs + least) / (blend + least)), rtol=1e-3, atol=1e-4
        )


def test_a_worse_member_misses_more() -> None:
    """A lasting change in the middle: what follows single looks is off for two of them, a season for many."""
    refl, clear, day = record(5, looks=40)
    level = np.where(np.arange(40) < 20, 1000, 3000)[:, None, None, None] + np.zeros_like(refl)
    miss = gather_evidence(np.where(clear[:, None], level, FILL).astype(np.int16), clear, day, day[:1]).miss_myx
    linear, _, harmonic, _ = miss.mean(axis=(1, 2))
    assert linear < 0 < harmonic


def test_shapes_and_types_are_as_told(found: Evidence) -> None:
    t, q, m = len(found.day_t), len(found.query_q), len(MEMBERS)
    sizes = {"t": t, "q": q, "m": m, "b": BANDS, "y": SHAPE[0], "x": SHAPE[1]}
    for field in fields(Evidence):
        value, axes = getattr(found, field.name), field.name.rsplit("_", 1)[1]
        assert value.shape == tuple(sizes[a] for a in axes), field.name
        if "b" in axes:
            assert value.dtype == np.float32, field.name
