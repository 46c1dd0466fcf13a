"""Errors cross process borders whole, and each kind of outcome has its own exit code."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsat import errors
from vsat.errors import ExitCode, InputError, VsatError, without_logins

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VsatError)]


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_kind_and_words(kind: type[VsatError]) -> None:
    error = kind("it is 3", place="a.yaml", next_step="make it 4")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.problem, again.place, again.next_step) == ("it is 3", "a.yaml", "make it 4")
    assert str(again) == "a.yaml: it is 3. Next: make it 4"


PLAIN = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))


@given(PLAIN, PLAIN, PLAIN)
def test_the_message_says_problem_place_and_next_step(problem: str, place: str, step: str) -> None:
    text = str(VsatError(problem, place=place, next_step=step))
    assert without_logins(problem) in text
    assert without_logins(place) in text
    assert without_logins(step) in text
    assert bool(step) == text.endswith(f". Next: {step}") or not step


@pytest.mark.parametrize(("told", "kept"), [
    ("tcp://me:hush@10.0.0.1:8786", "tcp://...@10.0.0.1:8786"),
    ("'postgresql://me:h,u;s(h@db/x' is none", "'postgresql://...@db/x' is none"),
    ("me:hush@example.org is no host name", "...@example.org is no host name"),
    ("http://hush@[::1]:80/api", "http://...@[::1]:80/api"),
    ("https://a.example/x.tif?sig=hush&se=1 is gone", "https://a.example/x.tif?... is gone"),
    ("postgresql://me@db/x?password=hush", "postgresql://...@db/x?..."),
    ("s3://key:hush@bucket/x, twice: a://b:hush@c", "s3://...@bucket/x, twice: a://...@c"),
    ("write postgresql://HOST:5432/NAME? at 12:30 @ noon", "write postgresql://HOST:5432/NAME? at 12:30 @ noon"),
    ("var/farm: 3 of 4 s3://bucket/prefix, who?", "var/farm: 3 of 4 s3://bucket/prefix, who?"),
])  # fmt: skip
def test_no_login_and_no_query_of_an_address_is_told(told: str, kept: str) -> None:
    assert without_logins(told) == kept == without_logins(kept)
    for error in (InputError(told), InputError("x", place=told), InputError("x", next_step=told)):
        assert "hush" not in str(error) and "hush" not in repr(error) and "hush" not in str(error.args)


def test_the_outcomes_that_are_told_apart_have_codes_of_their_own() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS if kind.exit_code != ExitCode.FAILED} == {
        "InputError": ExitCode.BAD_INPUT,
        "CatalogueDown": ExitCode.CATALOGUE_DOWN,
        "NoScenes": ExitCode.NO_SCENES,
        "AllCloudy": ExitCode.ALL_CLOUDY,
        "AccessError": ExitCode.ACCESS_REFUSED,
        "DiskFull": ExitCode.DISK_FULL,
    }
    assert [code.value for code in ExitCode] == list(range(8))


def test_a_refusal_of_access_is_a_failed_read() -> None:
    assert issubclass(errors.AccessError, errors.ReadError)
    assert all(issubclass(kind, VsatError) for kind in KINDS)


def test_what_a_file_says_of_itself_does_nothing_to_a_terminal() -> None:
    error = InputError("no band '\x1b[2J\x07'\n  but two lines", place="a\x00b\u202ec", next_step="x" * 20_000)
    assert error.problem == "no band '\\x1b[2J\\x07'\n  but two lines"
    assert error.place == "a\\x00b\\u202ec"
    assert len(str(error)) < 9000 and str(error).endswith("(12040 more characters)")
    assert pickle.loads(pickle.dumps(error)).args == error.args
