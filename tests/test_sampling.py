import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core.sampling import Drawn, Extents, Strata, allocate, draw, make_strata


@settings(max_examples=200, deadline=None)
@given(
    count=st.lists(st.integers(0, 60), min_size=1, max_size=12), total=st.integers(0, 400), floor=st.integers(0, 5),
    rule=st.sampled_from(["equal", "proportional", "neyman"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_an_allocation_keeps_its_sum_its_bounds_and_its_floor(
    count: list[int], total: int, floor: int, rule: str, seed: int
) -> None:
    available = np.array(count)
    spread = np.random.default_rng(seed).random(len(count))
    want = allocate(available, spread, total, rule=rule, floor=floor)  # type: ignore[arg-type]
    assert want.sum() == min(total, available.sum())
    assert (want >= 0).all() and (want <= available).all()
    if np.minimum(available, floor).sum() <= total:
        assert (want >= np.minimum(available, floor)).all()


def test_neyman_by_hand() -> None:
    # N = 400, 300, 300 and S = 1, 2, 4: shares 400, 600, 1200 of 2200; of 110 that is 20, 30, 60
    want = allocate(np.array([400, 300, 300]), np.array([1.0, 2.0, 4.0]), 110, rule="neyman", floor=0)
    assert want.tolist() == [20, 30, 60]


def test_what_a_small_stratum_lacks_goes_to_the_others() -> None:
    want = allocate(np.array([4, 100, 100]), np.ones(3), 60, rule="equal", floor=0)
    assert want.tolist() == [4, 28, 28]
    want = allocate(np.array([10, 30, 60]), np.ones(3), 50, rule="proportional", floor=8)
    assert want.tolist() == [8, 15, 27] or (want.sum() == 50 and want[0] == 8)


def test_strata_cut_at_quantiles_and_speak() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.integers(0, 4, 4000), rng.random(4000), rng.random(4000)]).astype(np.float32)
    strata = make_strata(features, ("season", "gap", "greenness"))
    found = strata.of(features)
    assert strata.count == 4 * 2 * 3
    counts = np.bincount(found, minlength=strata.count)
    assert counts.min() > 120  # of 167 expected
    assert strata.label(0) == "winter, gap low, greenness low"
    assert strata.label(strata.count - 1) == "autumn, gap high, greenness high"
    assert Strata(strata.names, strata.edges) == strata


def test_a_constant_feature_makes_one_bin_and_is_not_spoken_of() -> None:
    features = np.column_stack([np.ones(50), np.linspace(0, 1, 50)]).astype(np.float32)
    strata = make_strata(features, ("sensors", "greenness"))
    assert strata.count == 3
    assert strata.label(2) == "greenness high"


def drawn(**changed: object) -> tuple[Drawn, dict[str, object]]:
    rng = np.random.default_rng(1)
    n = 3000
    options: dict[str, object] = {
        "stratum_n": rng.choice(6, n, p=[0.4, 0.3, 0.2, 0.08, 0.015, 0.005]), "block_n": rng.integers(0, 9, n),
        "spread_n": rng.random(n).astype(np.float32), "place_n": np.zeros(n, np.int64),
        "x_n": rng.integers(0, 4000, n), "y_n": rng.integers(0, 4000, n), "size": 64.0,
        "look_nk": rng.integers(0, 256, (n, 3), dtype=np.uint8), "strata": 6, "total": 600, "rule": "equal", "floor": 1,
        "max_overlap": 0.3, "seed": 5,
    }  # fmt: skip
    options |= changed
    return draw(**options), options  # type: ignore[arg-type]


def overlap(options: dict[str, object], i: int, j: int) -> float:
    """Pixel by pixel: the plain twin."""
    x, y, size = options["x_n"], options["y_n"], int(options["size"])  # type: ignore[call-overload]
    looks = np.unpackbits(options["look_nk"], axis=1).astype(bool)  # type: ignore[arg-type]
    canvas = np.zeros((2, 2 * size, 2 * size), bool)
    x0, y0 = min(x[i], x[j]), min(y[i], y[j])  # type: ignore[index]
    for k, n in enumerate((i, j)):
        canvas[k, y[n] - y0 : y[n] - y0 + size, x[n] - x0 : x[n] - x0 + size] = True  # type: ignore[index]
    common = int(canvas.all(axis=0).sum()) * int((looks[i] & looks[j]).sum())
    both = int(canvas[0].sum()) * int(looks[i].sum()) + int(canvas[1].sum()) * int(looks[j].sum())
    return common / max(both - common, 1)


def test_a_draw_gives_every_stratum_its_share_and_takes_turns_among_blocks() -> None:
    found, options = drawn(max_overlap=1.0)
    stratum, block = options["stratum_n"], options["block_n"]
    assert len(found.picked) == len(set(found.picked.tolist())) == 600
    assert np.array_equal(np.bincount(stratum[found.picked], minlength=6), found.drawn_s)  # type: ignore[index]
    assert np.array_equal(found.drawn_s, found.want_s)
    per_block = np.bincount(block[found.picked][stratum[found.picked] == 0], minlength=9)  # type: ignore[index]
    assert per_block.max() - per_block.min() <= 1


def test_no_two_drawn_are_nearly_the_same() -> None:
    found, options = drawn(
        max_overlap=0.05,
        x_n=np.random.default_rng(2).integers(0, 700, 3000),
        y_n=np.random.default_rng(3).integers(0, 700, 3000),
    )
    assert found.thinned > 100
    x, y = options["x_n"], options["y_n"]
    near = [
        (i, j)
        for a, i in enumerate(found.picked)
        for j in found.picked[:a]
        if abs(x[i] - x[j]) < 64 and abs(y[i] - y[j]) < 64
    ]  # type: ignore[index]
    assert near
    assert max(overlap(options, int(i), int(j)) for i, j in near) <= 0.05


def test_exact_duplicates_are_drawn_once() -> None:
    found, _ = drawn(
        x_n=np.zeros(3000, int), y_n=np.zeros(3000, int), look_nk=np.full((3000, 3), 255, np.uint8), max_overlap=0.99
    )
    assert len(found.picked) == 1


def test_what_earlier_draws_took_is_not_drawn_again() -> None:
    corners = {name: np.random.default_rng(seed).integers(0, 700, 3000) for seed, name in ((2, "x_n"), (3, "y_n"))}
    first, options = drawn(max_overlap=0.05, total=20, **corners)
    place, x, y, looks = (options[name][first.picked] for name in ("place_n", "x_n", "y_n", "look_nk"))  # type: ignore[index]

    def worst(earlier: Extents | None) -> float:
        """The largest overlap of what a second draw takes with what the first took."""
        second, _ = drawn(max_overlap=0.05, seed=6, earlier=earlier, **corners)
        pairs = [(int(i), int(j)) for i in second.picked for j in first.picked]
        near = [(i, j) for i, j in pairs if all(abs(at[i] - at[j]) < 64 for at in corners.values())]
        return max(overlap(options, i, j) for i, j in near)

    assert 0 < worst(Extents(place, x, y, looks)) <= 0.05
    assert worst(None) == worst(Extents(place + 1, x, y, looks)) > 0.05  # other tiles do not overlap


def test_what_a_scarce_stratum_lacks_is_drawn_from_the_others() -> None:
    rng = np.random.default_rng(4)
    stratum = np.repeat([0, 1], [2700, 300])
    x = np.where(stratum == 1, 0, rng.integers(0, 100, 3000) * 64)
    looks = np.where(stratum[:, None] == 1, 255, rng.integers(1, 255, (3000, 3))).astype(np.uint8)
    found, _ = drawn(stratum_n=stratum, x_n=x, y_n=x, look_nk=looks, strata=2, total=200, max_overlap=0.9)
    assert found.want_s.tolist() == [100, 100]
    assert found.drawn_s[1] == 1  # all of them are one and the same
    assert found.drawn_s[0] == 199


def test_the_seed_decides() -> None:
    one, two, other = (drawn(seed=seed)[0].picked for seed in (5, 5, 6))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("rule", ["proportional", "neyman"])
def test_the_rule_is_followed(rule: str) -> None:
    found, options = drawn(rule=rule, max_overlap=1.0, floor=0)
    count = np.bincount(options["stratum_n"], minlength=6)  # type: ignore[arg-type]
    spread = np.array([np.sqrt((options["spread_n"][options["stratum_n"] == s] ** 2).mean()) for s in range(6)])  # type: ignore[index]
    share = count * (spread if rule == "neyman" else 1.0)
    assert np.abs(found.drawn_s - 600 * share / share.sum()).max() <= 1
