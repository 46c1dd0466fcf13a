"""How looks are hidden from a method, so that what it fills can be compared with what was seen; and that nothing leaks.

A fold is a context, what a method may know, and targets, what it is asked for. A target's day and the days next to it
are in no context: two sensors see nearly the same ground on days in a row. The one exception is "masks", where the clear
rest of the target's own look stays, for that is what a real cloud leaves.
Axes: t looks, b bands, y, x.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsat.core.gaps import near
from vsat.hls import FILL

PROTOCOLS = ("dates", "masks", "gaps", "forecast", "thinning")
LEVELS = {
    "dates": (0,),
    "masks": (0,),
    "gaps": (8, 16, 32, 64, 128),  # days without a look, the target in their middle
    "forecast": (8, 16, 32, 64),  # days from the last look of all to the target
    "thinning": (10, 30, 50, 70, 90),  # per cent of the days with looks that are hidden
}
# As the reference protocol draws them.
CLEAR_ENOUGH = 0.6  # clear share of a look that can be a target
ONE_IN = 7  # of such looks are targets of one fold
MARGIN = 0.03  # share of the looks at both ends of the record that are no targets: nothing lies beyond them
CLOUDY = (0.15, 0.85)  # clear share of a look whose cloud is laid over others
MASK_PX = 400  # images with fewer pixels have no shapes of cloud
MOST_TARGETS = 12  # per fold of the protocols with levels
REPEATS = {"dates": 3, "masks": 3, "forecast": 3}  # so that a few odd dates do not decide
LEAST_LOOKS = 3  # that a context must keep

Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


class LeakError(AssertionError):
    """Something that is asked for is in the context: no score of this fold would mean anything."""


@dataclass(frozen=True)
class Target:
    """One look to be estimated: its index along t, its day, and bool (y, x) where it is clear and hidden."""

    look: int
    day: int
    mask_yx: Bools


@dataclass(frozen=True)
class Fold:
    """One draw: what stays (bool (t, y, x), part of what is clear), and what is asked for."""

    protocol: str
    level: int
    number: int
    context_tyx: Bools
    targets: tuple[Target, ...]


def folds(clear_tyx: Bools, day_t: Days, protocol: str, *, count: int = 2, seed: int = 0) -> Iterator[Fold]:
    """Draw folds, `count` for each of the protocol's levels (three times as many of dates, masks and forecast).

    Args:
        clear_tyx: bool, from `masks.clear`.
        day_t: int32, days since 1970-01-01, ascending, repeats allowed.
        protocol: a name of PROTOCOLS.
        count: draws.
        seed: the same seed gives the same folds.

    Yields:
        Folds with at least one target. There are none where the record is too short or the image too small ("masks").
    """
    draw = _DRAWS[protocol]
    for level in LEVELS[protocol]:
        for number in range(count * REPEATS.get(protocol, 1)):
            rng = np.random.default_rng([seed, PROTOCOLS.index(protocol), level, number])
            found = draw(clear_tyx, day_t, level, rng)
            if found is not None and found[1]:
                yield Fold(protocol, level, number, *found)


def hidden(refl_tbyx: npt.NDArray[np.int16], context_tyx: Bools) -> npt.NDArray[np.int16]:
    """What a method is given: everything that is no context is FILL, int16 (t, b, y, x)."""
    return np.where(context_tyx[:, np.newaxis], refl_tbyx, np.int16(FILL))


def check_fold(fold: Fold, clear_tyx: Bools, day_t: Days) -> None:
    """Look a fold through for leaks.

    Raises:
        LeakError: the context holds what is not clear, a pixel of a target, a look on or next to a target's day, or, by
            protocol, a look inside the gap or after the last one allowed; with the day and the number of pixels.
    """
    context = fold.context_tyx
    _none(context & ~clear_tyx, day_t, fold, "pixels that are not clear")
    for target in fold.targets:
        own = np.zeros_like(context)
        own[target.look] = target.mask_yx
        _none(context & own, day_t, fold, "target pixels")
        beside = near(day_t, [target.day])
        if fold.protocol == "masks":
            beside[target.look] = False
        _none(context & beside[:, None, None], day_t, fold, f"pixels within a day of the target of {_iso(target.day)}")
        if fold.protocol == "gaps":
            inside = near(day_t, [target.day], fold.level // 2)
            _none(context & inside[:, None, None], day_t, fold, f"pixels in the gap around {_iso(target.day)}")
        if fold.protocol == "forecast":
            late = day_t > target.day - fold.level
            _none(context & late[:, None, None], day_t, fold, f"pixels later than {fold.level} days before the target")


def _none(leak_tyx: Bools, day_t: Days, fold: Fold, what: str) -> None:
    if leak_tyx.any():
        t = int(leak_tyx.any(axis=(1, 2)).argmax())
        told = f"{fold.protocol} {fold.level or ''}".strip()
        raise LeakError(f"{told}: the context holds {int(leak_tyx[t].sum())} {what}, on {_iso(int(day_t[t]))}")


def _iso(day: int) -> str:
    return str(np.datetime64(day, "D"))


Drawn = tuple[Bools, tuple[Target, ...]] | None


def _usable(clear_tyx: Bools) -> Ints:
    """Looks that can be targets."""
    looks = len(clear_tyx)
    share_t = clear_tyx.mean(axis=(1, 2))
    place = np.arange(looks) / max(looks, 1)
    return np.flatnonzero((share_t > CLEAR_ENOUGH) & (place > MARGIN) & (place < 1 - MARGIN))


def _some(usable: Ints, rng: np.random.Generator, most: int | None = None) -> Ints:
    """A draw of the usable looks, ascending."""
    size = max(1, usable.size // ONE_IN) if most is None else min(most, usable.size)
    return np.sort(rng.choice(usable, size, replace=False)) if usable.size else usable


def _one_a_day(looks: Ints, day_t: Days) -> Ints:
    """Of looks within a day of each other the first: the others leave the context, and cannot be asked for too."""
    kept: list[int] = []
    for t in looks.tolist():
        if not kept or day_t[t] - day_t[kept[-1]] > 1:
            kept.append(t)
    return np.array(kept, np.int64)


def _targets(clear_tyx: Bools, day_t: Days, looks: Ints, context_tyx: Bools) -> tuple[Target, ...]:
    """Whole looks as targets, where the context knows the pixel at all."""
    known = context_tyx.any(axis=0)
    found = [Target(int(t), int(day_t[t]), clear_tyx[t] & known) for t in looks]
    return tuple(target for target in found if target.mask_yx.any())


def _dates(clear_tyx: Bools, day_t: Days, level: int, rng: np.random.Generator) -> Drawn:
    """Whole clear looks, and all within a day of them."""
    looks = _one_a_day(_some(_usable(clear_tyx), rng), day_t)
    context = clear_tyx & ~near(day_t, day_t[looks])[:, None, None]
    return context, _targets(clear_tyx, day_t, looks, context)


def _masks(clear_tyx: Bools, day_t: Days, level: int, rng: np.random.Generator) -> Drawn:
    """Cloud of other dates laid over clear looks; half the time the looks next in time go too."""
    usable = _usable(clear_tyx)
    if not usable.size or clear_tyx[0].size < MASK_PX:
        return None
    share_t = clear_tyx.mean(axis=(1, 2))
    shapes = np.flatnonzero((share_t > CLOUDY[0]) & (share_t < CLOUDY[1]))
    if shapes.size < 2:
        return None
    looks, context, masks = _one_a_day(_some(usable, rng), day_t), clear_tyx.copy(), []
    for t in looks:
        others = shapes[~near(day_t[shapes], [day_t[t]])]
        cloud_yx = ~clear_tyx[rng.choice(others if others.size else shapes)]
        cloud_yx = cloud_yx[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        masks.append(clear_tyx[t] & cloud_yx)
        gone = near(day_t, [int(day_t[t])])
        if rng.random() < 0.5:
            gone[max(t - 1, 0) : t + 2] = True
        gone[looks] = False  # other targets keep their clear rest
        context[gone] = False
    for t, mask_yx in zip(looks, masks, strict=True):
        context[t] = clear_tyx[t] & ~mask_yx
    found = [Target(int(t), int(day_t[t]), mask) for t, mask in zip(looks, masks, strict=True)]
    return context, tuple(target for target in found if target.mask_yx.any())


def _gaps(clear_tyx: Bools, day_t: Days, level: int, rng: np.random.Generator) -> Drawn:
    """Gaps with a target in the middle, so far apart that each keeps looks of its own on both sides."""
    usable, looks = _usable(clear_tyx), list[int]()
    for t in rng.permutation(usable):
        if len(looks) < MOST_TARGETS and all(abs(int(day_t[t]) - int(day_t[k])) > level + level // 2 for k in looks):
            looks.append(int(t))
    chosen = np.array(sorted(looks), np.int64)
    context = clear_tyx & ~near(day_t, day_t[chosen], max(1, level // 2))[:, None, None]
    return _enough(clear_tyx, day_t, chosen, context)


def _forecast(clear_tyx: Bools, day_t: Days, level: int, rng: np.random.Generator) -> Drawn:
    """All looks later than `level` days before the target are hidden: one target a fold, in the record's later half."""
    usable = _usable(clear_tyx)
    usable = usable[day_t[usable] - level > day_t[0] + (day_t[-1] - day_t[0]) * 0.4] if usable.size else usable
    if not usable.size:
        return None
    chosen = _some(usable, rng, 1)
    first = int(day_t[chosen[0]])
    # what follows within a month of the draw lies no nearer to the context, and costs nothing more
    later = usable[(day_t[usable] >= first) & (day_t[usable] <= first + level // 4)]
    context = clear_tyx & (day_t <= first - level)[:, None, None]
    return _enough(clear_tyx, day_t, _one_a_day(later, day_t), context)


def _thinning(clear_tyx: Bools, day_t: Days, level: int, rng: np.random.Generator) -> Drawn:
    """So many per cent of the days with looks are hidden; some of the clear ones among them are targets."""
    days = np.unique(day_t[clear_tyx.any(axis=(1, 2))])
    gone = rng.choice(days, round(days.size * level / 100), replace=False)
    usable = _usable(clear_tyx)
    chosen = _one_a_day(_some(usable[np.isin(day_t[usable], gone)], rng, MOST_TARGETS), day_t)
    context = clear_tyx & ~(np.isin(day_t, gone) | near(day_t, day_t[chosen]))[:, None, None]
    return _enough(clear_tyx, day_t, chosen, context)


def _enough(clear_tyx: Bools, day_t: Days, looks: Ints, context_tyx: Bools) -> Drawn:
    """The fold, unless its context is next to nothing."""
    if not looks.size or np.unique(day_t[context_tyx.any(axis=(1, 2))]).size < LEAST_LOOKS:
        return None
    return context_tyx, _targets(clear_tyx, day_t, looks, context_tyx)


_DRAWS: dict[str, Callable[[Bools, Days, int, np.random.Generator], Drawn]] = {
    "dates": _dates,
    "masks": _masks,
    "gaps": _gaps,
    "forecast": _forecast,
    "thinning": _thinning,
}
