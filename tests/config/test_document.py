from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.config.document import MAX_DEPTH, MAX_FILE_BYTES, parse_scalar, read_document
from edgeq.errors import ConfigError


def read(tmp_path: Path, text: str | bytes):
    path = tmp_path / "f.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def failure(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return caught.value.message.removeprefix(f"{tmp_path}/f.yaml")


def test_values_and_the_lines_of_their_keys_are_read(tmp_path):
    document = read(tmp_path, "# top\na: 1\nb:\n  c: [x,\n    y]\n  d: 2.5\n")
    assert document.values == {"a": 1, "b": {"c": ["x", "y"], "d": 2.5}}
    assert document.line(("a",)) == 2
    assert document.line(("b", "c")) == 4
    assert document.line(("b", "c", 1)) == 5
    assert document.line(("b", "d", "not there")) == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("true", True),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("{a: []}", {"a": []}),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text, value):
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "\ufeff"])
def test_a_file_that_says_nothing_is_empty(tmp_path, text):
    assert read(tmp_path, text).values == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: key 'a' is there twice; first at line 1"),
        ("a: {b: 1,\n b: 2}", ":2: key 'b' is there twice; first at line 1"),
        ("a: &x 1\nb: *x\n", ":2: an alias is not taken here"),
        ("a: !!python/object:os.system x", ":1: the tag 'tag:yaml.org,2002:python/object"),
        ("a: !!set {x: null}", ":1: the tag 'tag:yaml.org,2002:set' is not taken here"),
        ("a: !!int x", ":1: 'x' is not tag:yaml.org,2002:int"),
        ("- 1\n- 2\n", ":1: the file holds [1, 2]; expected keys with values"),
        ("[a]: 1", ":1: a key is a mapping or list; expected a word"),
        ("a: 1\n\tb: 2\n", ":2: found character"),
        ("a: [1,\n", ":2: "),
        ("a: 1\n---\nb: 2\n", ":2: but found another document"),
        ("a: \x01", ":1: unacceptable character"),
        (b"a: \xff", ":1: "),
        ("a: " + "[" * 5000, ":1: nested too deep"),
        ("a: " + "b" * MAX_FILE_BYTES, f" is over {MAX_FILE_BYTES} bytes"),
    ],
)
def test_what_is_not_taken_is_said_with_its_line(tmp_path, text, said):
    assert failure(tmp_path, text).startswith(said)


def test_a_billion_laughs_are_cut_off_at_the_first_alias(tmp_path):
    lines = ["a: &a [lol, lol]"]
    lines += [
        f"{b}: &{b} [*{a},*{a},*{a},*{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert failure(tmp_path, "\n".join(lines)) == ":2: an alias is not taken here"


def test_nesting_within_the_limit_is_read(tmp_path):
    depth = MAX_DEPTH - 2
    assert read(tmp_path, "a: " + "[" * depth + "]" * depth).values


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_document(tmp_path)
