"""Searches in a catalogue that fails on purpose: each gives every granule, or says that there is no complete answer.

    python tests/fault/campaign_catalogue.py [--small] [--minutes 30] [--seed 7] [--record]

Each search draws what the catalogue holds, how long its pages are, whether it counts, and what goes wrong how often: with
the pages, with the count, with the items while they are listed, with the answers on the way, or with several of these.
An answer without one of the granules is *falsely complete*: the goal is 0.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import faulty
from fault import figures
from granules import GRID, cmr_item

from vsat.errors import CatalogueDown
from vsat.io.catalog import Found, search
from vsat.io.download import Patience

COMMAND = "python tests/fault/campaign_catalogue.py --record"
PATIENCE = Patience(attempts=4, first_delay_s=0.001, cap_s=0.01, budget_s=60, connect_s=5, silence_s=1)
START, END = date(2024, 4, 10), date(2024, 5, 20)
ALWAYS = 1 << 30
HOSTS = ("data.lpdaac.earthdatacloud.nasa.gov",)
_SEARCHES = {True: 1, False: 12}  # of each kind, small and full

Page = dict[str, Any]
Query = dict[str, str]
Trouble = Callable[["Troubled", Query, Page], bool]  # changes the page; True if there was something to change


@dataclass
class Troubled(faulty.Catalogue):
    """A catalogue whose pages are changed on their way out, each trouble as often as it is told.

    Attributes:
        troubles: what happens, and how often it still will.
        rng: decides which items.
        unsure: ids that were removed or added while they were listed.
        struck: how often anything went wrong, answers on the way included.
    """

    troubles: list[list[Any]] = field(default_factory=list)
    rng: random.Random = field(default_factory=random.Random)
    unsure: set[str] = field(default_factory=set)
    struck: int = 0

    def __call__(self, query: Query) -> Page:
        page = super().__call__(query)
        for trouble in self.troubles:
            what, left = trouble
            if left > 0 and what(self, query, page):
                trouble[1] -= 1
                self.struck += 1
        return page


# Pages


def lost_next(_of: Troubled, _query: Query, page: Page) -> bool:
    had = bool(page["links"])
    page["links"] = []
    return had


def skipped_page(_of: Troubled, query: Query, page: Page) -> bool:
    """The link leads over one page."""
    number = int(query.get("page", 0)) + 1
    for link in page["links"]:
        link["href"] = link["href"].replace(f"page={number}", f"page={number + 1}")
    return bool(page["links"])


def repeated_page(of: Troubled, query: Query, page: Page) -> bool:
    number = int(query.get("page", 0))
    if number:
        page["features"] = faulty.Catalogue.__call__(of, {**query, "page": str(number - 1)})["features"]
    return number > 0


def empty_page(_of: Troubled, _query: Query, page: Page) -> bool:
    had = bool(page["features"])
    page["features"] = []
    return had


def doubled_items(of: Troubled, _query: Query, page: Page) -> bool:
    page["features"] = page["features"] + of.rng.sample(page["features"], k=len(page["features"]) // 2)
    return bool(page["features"])


def doubled_instead(_of: Troubled, _query: Query, page: Page) -> bool:
    """The second half of the page is the first one again."""
    half = len(page["features"]) // 2
    page["features"] = page["features"][:half] * 2 + page["features"][2 * half :]
    return half > 0


# Counts


def count_high(of: Troubled, _query: Query, page: Page) -> bool:
    return _count(page, lambda count: count + of.rng.randint(1, 9))


def count_low(of: Troubled, _query: Query, page: Page) -> bool:
    return _count(page, lambda count: max(0, count - of.rng.randint(1, 9)))


def count_of_page(_of: Troubled, _query: Query, page: Page) -> bool:
    return _count(page, lambda _count: len(page["features"]))


def count_no_number(of: Troubled, _query: Query, page: Page) -> bool:
    return _count(page, lambda count: of.rng.choice([str(count), None, -1, float(count), True, [count]]))


def _count(page: Page, lie: Callable[[int], object]) -> bool:
    if "numberMatched" in page:
        page["numberMatched"] = lie(page["numberMatched"])
    return "numberMatched" in page


# Items that change between the first page and the next


def revised_meanwhile(of: Troubled, _query: Query, page: Page) -> bool:
    return _meanwhile(of, page, lambda items, at: [*items[:at], *items[at + 1 :], _newer(items[at])])


def revised_in_place(of: Troubled, _query: Query, page: Page) -> bool:
    return _meanwhile(of, page, lambda items, at: [*items[:at], _newer(items[at]), *items[at + 1 :]])


def removed_meanwhile(of: Troubled, _query: Query, page: Page) -> bool:
    return _meanwhile(of, page, lambda items, at: [*items[:at], *items[at + 1 :]])


def added_meanwhile(of: Troubled, _query: Query, page: Page) -> bool:
    return _meanwhile(of, page, lambda items, at: [_other(items[at]), *items])


def replaced_meanwhile(of: Troubled, _query: Query, page: Page) -> bool:
    """One gone, another one come: the count stays."""
    return _meanwhile(of, page, lambda items, at: [*items[:at], *items[at + 1 :], _other(items[at])])


def _meanwhile(of: Troubled, page: Page, change: Callable[[list[Any], int], list[Any]]) -> bool:
    """After a first page of several, at an item of it."""
    if not page["links"] or not page["features"]:
        return False
    chosen = of.rng.choice(page["features"])["id"]
    items = list(of.items)
    of.items = change(items, next(at for at, item in enumerate(items) if item["id"] == chosen))
    of.unsure |= {chosen, _other({"id": chosen})["id"]}
    return True


def _newer(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "properties": {**item["properties"], "updated": "2024-06-30T00:00:00Z"}}


def _other(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "id": item["id"].replace("T10", "T11")}


# Answers


def broken_json(handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
    """The text ends somewhere, and the answer says that this was all."""
    handler.answer(200, body[: random.Random(len(body)).randrange(max(1, len(body)))], headers)


def cut_json(handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
    faulty.truncated(len(body) // 2)(handler, body, headers)


TROUBLES: dict[str, tuple[Trouble, ...]] = {
    "next link lost": (lost_next,),
    "page skipped": (skipped_page,),
    "page repeated": (repeated_page,),
    "page empty": (empty_page,),
    "items doubled": (doubled_items, doubled_instead),
    "count too high": (count_high,),
    "count too low": (count_low,),
    "count of the page only": (count_of_page,),
    "count that is none": (count_no_number,),
    "item revised meanwhile": (revised_meanwhile, revised_in_place),
    "item removed meanwhile": (removed_meanwhile,),
    "item added meanwhile": (added_meanwhile,),
    "item replaced meanwhile": (replaced_meanwhile,),
}
ANSWERS: dict[str, tuple[faulty.Fault, ...]] = {
    "stops in mid-JSON": (broken_json, cut_json),
    "5xx": (faulty.status(500), faulty.status(502), faulty.status(503), faulty.status(504)),
    "429 Retry-After": (faulty.status(429, Retry_After="0"),),
    "reset": (faulty.reset,),
    "hang": (faulty.hang(1.5),),
    "HTML page": (faulty.html(b"<html>down for maintenance</html>"),),
}
SEVERAL = "several at once"
KINDS = (*TROUBLES, *ANSWERS, SEVERAL)


def holdings(rng: random.Random) -> list[dict[str, Any]]:
    """Items of two sensors over our tile and a neighbour, revised ones among them; sometimes few or none."""
    days = [START + timedelta(days=k) for k in range((END - START).days + 1)]
    share = rng.choice([0.0, 0.05, 0.3, 0.9])
    return [
        cmr_item(f"HLS.{sensor}.T{tile}.{day:%Y%j}T10{rng.randrange(60):02d}01.v2.0", updated=f"{day}T23:00:00Z")
        for day in days
        for sensor in ("L30", "S30")
        for tile in ("33UVP", "33UVQ")
        if rng.random() < share
    ]


def one_search(kind: str, seed: str) -> str:
    """What came of one search that met a fault: complete, refused, false (falsely complete), or another error."""
    tries = (_search(kind, f"{seed}/{k}") for k in range(100))
    return next(outcome for outcome in tries if outcome)


def _search(kind: str, seed: str) -> str:
    """The same of one draw; "" if nothing went wrong in it."""
    rng = random.Random(seed)
    items = holdings(rng)
    catalogue = Troubled(
        list(items), size=rng.choice([100, 50, 20, 7]), counts=rng.random() < 0.6, empty_last=rng.random() < 0.3,
        rng=random.Random(seed),
    )  # fmt: skip
    troubles, answers, rate = _drawn(kind, rng)
    catalogue.troubles = [[trouble, rng.choice([1, 1, 3, ALWAYS])] for trouble in troubles]
    if not catalogue.counts:
        for (
            trouble
        ) in catalogue.troubles:  # nobody can tell a catalogue that neither lists nor counts from an empty one
            trouble[1] = 1 if trouble[0] is empty_page else trouble[1]
    with faulty.serving(pages=catalogue) as server:
        if answers:
            server.always("/search", _sometimes(answers, rate, catalogue))
        try:
            found = search(replace(server.endpoint(), hosts=HOSTS), GRID, START, END, patience=PATIENCE)
        except CatalogueDown as refused:
            return "refused" if "no complete answer: " in str(refused) else "without a reason"
        except Exception as error:  # noqa: BLE001 - a campaign counts what should not be
            print(f"{kind}, {seed}: {error!r}", file=sys.stderr)
            return "crash"
    if not catalogue.struck:
        return ""
    if not _is_whole(found, items, catalogue.unsure):
        print(f"{kind}, {seed}: falsely complete", file=sys.stderr)
        return "false"
    return "complete"


def _drawn(kind: str, rng: random.Random) -> tuple[list[Trouble], list[faulty.Fault], float]:
    rate = rng.choice([0.1, 0.5, 1.0])
    if kind in TROUBLES:
        return [rng.choice(TROUBLES[kind])], [], 0.0
    if kind in ANSWERS:
        return [], list(ANSWERS[kind]), rate
    chosen = [rng.choice(TROUBLES[name]) for name in rng.sample(sorted(TROUBLES), k=rng.randint(1, 3))]
    answers = [fault for name in rng.sample(sorted(set(ANSWERS) - {"hang"}), k=1) for fault in ANSWERS[name]]
    return chosen, answers, 0.1


def _sometimes(faults: list[faulty.Fault], rate: float, catalogue: Troubled) -> faulty.Fault:
    def answer(handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
        if catalogue.rng.random() < rate:
            catalogue.struck += 1
            catalogue.rng.choice(faults)(handler, body, headers)
        else:
            handler.send_good(body, headers)

    return answer


def _is_whole(found: Found, items: list[dict[str, Any]], unsure: set[str]) -> bool:
    """Every granule is there that was there all the time, and nothing that never was."""
    ours = {item["id"] for item in items if "T33UVP" in item["id"]}
    got = {granule.id for granule in found.granules}
    return ours - unsure <= got <= ours | unsure


def run(seed: int, *, small: bool, minutes: float) -> tuple[list[dict[str, figures.Cell]], bool]:
    """The table by kind of fault, and whether no search was falsely complete."""
    ends = time.monotonic() + 60 * minutes
    rows: list[dict[str, figures.Cell]] = []
    total: Counter[str] = Counter()
    with ThreadPoolExecutor(4) as pool:
        for kind in KINDS:
            if time.monotonic() > ends:
                break
            jobs = [pool.submit(one_search, kind, f"{seed}/{kind}/{k}") for k in range(_SEARCHES[small])]
            outcomes = Counter(job.result() for job in jobs)
            rows.append(_row(kind, outcomes))
            total += outcomes
    rows.append(_row("all", total))
    wanted = len(KINDS) * _SEARCHES[small]
    return rows, set(total) <= {"complete", "refused"} and total.total() == wanted


def _row(kind: str, outcomes: Counter[str]) -> dict[str, figures.Cell]:
    known = ("complete", "refused", "false")
    return {
        "fault": kind, "searches": outcomes.total(), "complete": outcomes["complete"],
        "refused with a reason": outcomes["refused"], "falsely complete": outcomes["false"],
        "crashes": outcomes.total() - sum(outcomes[name] for name in known),
    }  # fmt: skip


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # libraries' remarks on the answers
    given = figures.arguments(__doc__).parse_args()
    found_rows, is_reached = run(given.seed, small=given.small, minutes=given.minutes)
    figures.record("catalogue", COMMAND, found_rows, is_reached, write=given.record)
