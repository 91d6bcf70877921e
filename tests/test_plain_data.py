"""A stranger's JSON and YAML: plain data, or a ConfigError that names file and place, within seconds."""

import json
import os
import time

import pytest

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import DEEPEST, MOST_BYTES, MOST_YAML_BYTES, parse_json, parse_yaml, read_json, read_yaml
from mnv2_tasks.wording import visible

BILLION_LAUGHS = "a: &a [x]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi")
)
DEEP = "[" * 100_000
REFUSED = {
    "deep": ('{"a":' + DEEP, DEEP, f"more than {DEEPEST} lists|maximum nesting"),
    "just too deep": ("[" * 65 + "]" * 65, "[" * 65 + "]" * 65, f"more than {DEEPEST} lists"),
    "many digits": ('{"a": {"b": [1' + "0" * 400 + "]}}", "a: {b: [1" + "0" * 400 + "]}", "a.b.0 is no finite number"),
    "more digits than int takes": ('{"a": ' + "9" * 5000 + "}", "a: " + "9" * 5000, "a is no finite number"),
    "beyond 64 bits": ('{"a": 18446744073709551616}', "a: 18446744073709551616", "a is a number that 64 bits"),
    "infinite": ('{"a": Infinity}', "a: .inf", "a is no finite number"),
    "no number": ('{"a": NaN}', "a: .nan", "a is no finite number"),
    "overflowing": ('{"a": 1e999}', "a: 1e999", "a is no finite number"),
    "half a surrogate pair": (r'{"a": "\ud800"}', r'a: "\ud800"', "surrogate|invalid Unicode"),
    "cut short": ('{"a": [1,\n', "a: [1,\n", "line 2, column 1: is not valid"),
    "wrong bytes": (b'{"a":\n "\xff"}', b"a:\n - \xff", "line 2: is not UTF-8"),
    "half of UTF-16": (b"\xff\xfe{\0}", b"\xff\xfea", "line 1: is not UTF-8"),
    "too large": (" " * (MOST_BYTES + 1), " " * (MOST_YAML_BYTES + 1), "is larger than"),
}  # fmt: skip


@pytest.mark.parametrize("of_json, of_yaml, expected", REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_data_is_refused_fast_by_name_and_place(of_json, of_yaml, expected):
    for parse, content in ((parse_json, of_json), (parse_yaml, of_yaml)):
        start = time.perf_counter()
        with pytest.raises(ConfigError, match=f"^stranger's.*({expected})"):
            parse(content, "stranger's")
        assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "content, expected",
    [
        (BILLION_LAUGHS, r"line 2: refers to another place \(\*a\)"),
        ("- 1\n- !!python/object/apply:os.system [id]", r"line 2: asks for a type \(tag:yaml.org,2002:python"),
        ('a: !!int ""', "line 1: asks for a type"),
        ("x: 1\n1: a", "the key 1 is no text: put it in quotes"),
        ("a: " + "1:" * 100_000 + "1", "a is no finite number"),  # base 60: its digits take hours
        ("a: 0x" + "f" * 100_000, "a is no finite number"),
        ("a: 1\n--- \nb: 2", "line 2, column 1: is not valid YAML"),
        ("a: \x1b", "is not valid YAML"),
    ],
)
def test_yaml_expands_and_builds_nothing(content, expected):
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=f"^stranger's.*{expected}"):
        parse_yaml(content, "stranger's")
    assert time.perf_counter() - start < 2


def test_plain_data_comes_back_as_it_is():
    content = {"a": [1, -2.5, True, None, "é\U0001f600", [], {}], "b": {"c": 2**64 - 1, "d": -(2**63), "e": 1.7e308}}
    assert parse_json(json.dumps(content), "") == content
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(content, ensure_ascii=False).encode(), "") == content
    assert parse_json(json.dumps(content, ensure_ascii=False).encode("utf-16"), "") == content
    assert parse_yaml(json.dumps(content, ensure_ascii=False), "") == content
    assert parse_yaml("a: 1e-3\nb: 1.5e5\nc: 2024-01-01\nd: no\ne: ~\nf: 1.\ng: 010", "") == {
        "a": 0.001, "b": 150_000.0, "c": "2024-01-01", "d": False, "e": None, "f": 1.0, "g": 8,
    }  # fmt: skip
    assert parse_yaml("names: [no, 1, 1e-3]\n0: x", "", as_written=True) == {"names": ["no", "1", "1e-3"], "0": "x"}
    assert parse_yaml("", "") is None


@pytest.mark.slow
def test_the_largest_files_of_the_meanest_kind_take_seconds():
    for parse, content in (
        (parse_json, "[" + "[]," * (MOST_BYTES // 3 - 2) + "[]]"),
        (parse_yaml, "- a\n" * (MOST_YAML_BYTES // 4)),
    ):
        start = time.process_time()
        parse(content, "")
        assert time.process_time() - start < 10


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_yaml):
        with pytest.raises(ConfigError, match=f"^{tmp_path}/none: cannot be opened"):
            read(tmp_path / "none")
        for place in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(ConfigError, match=f"^{place}: cannot be opened .*(not a file|[Dd]irectory)"):
                read(place)


def test_text_for_people_holds_nothing_that_a_terminal_acts_on():
    assert visible("Köln 東京 a b") == "Köln 東京 a b"
    assert visible("a\x1b]0;x\x07\n\x9b2J\u202eb\ud800") == r"a\x1b]0;x\x07\n\x9b2J\u202eb\ud800"
