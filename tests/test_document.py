"""YAML and JSON of users: every surprise has a line."""

from pathlib import Path

import pytest

from vsat.document import MAX_BYTES, read_json, read_yaml
from vsat.errors import InputError


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", r"some.yaml:3:1: .*'a' stands twice \(first in line 1\)"),
        ("x:\n  a: 1\n  a: 1\n", "some.yaml:3:3: "),
        ("a:\n\tb: 1\n", "some.yaml:2:1: .*no tabs"),
        ("a: [1, 2\n", "some.yaml:2:1: "),
        ("a: &x [1]\nb: *x\n", "some.yaml:2:4: .*aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "some.yaml:1:4: .*constructor"),
        ("a: !!timestamp 2023-99-99\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "key must be plain text"),
        ("[" * 5000, "nested more than"),
        ("a: 1\n--- \nb: 2\n", "some.yaml:2:1: .*document"),
        ("- 1\n- 2\n", "holds a list"),
        ("just text", "holds a str"),
        ("", "holds nothing"),
        ("# only a comment\n", "holds nothing"),
        (b"a: caf\xe9\n", "some.yaml:1: not UTF-8"),
        (b"a: \x00\n", "not valid YAML"),
        ("a: " + "x" * MAX_BYTES, "larger than 1,000,000 bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_yaml(file_of(tmp_path, text))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="not a file"):
        read_yaml(tmp_path)


def test_lines_of_keys_are_known_and_absent_keys_have_their_parents(tmp_path: Path) -> None:
    document = read_yaml(file_of(tmp_path, "# first\na: 1\nb:\n  c: 2\n  d:\n    - 3\n    - 4\n"))
    assert document.content == {"a": 1, "b": {"c": 2, "d": [3, 4]}}
    assert [document.line(keys) for keys in [("a",), ("b", "c"), ("b", "d", 1), ("b", "absent"), ("absent",), ()]] == [
        2,
        4,
        7,
        3,
        2,
        2,
    ]


def test_days_stay_text_and_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert read_yaml(file_of(tmp_path, b"\xef\xbb\xbfa: 2024-05-01\n")).content == {"a": "2024-05-01"}


@pytest.mark.parametrize("text", ["{", "", "[" * 200_000])
def test_json_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not JSON"):
        read_json(file_of(tmp_path, text), next_step="give a GeoJSON file")
