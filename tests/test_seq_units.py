"""Quantities as people write them, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptstress.errors import UsageError
from ptstress.units import (
    format_count, format_geometry, format_kb, format_seconds, parse_cpus, parse_duration, parse_extent,
    parse_geometry, parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("5m", 300), ("3h", 10800), ("2d", 172800), ("500ms", 0.5), ("1.5s", 1.5)]
)
def test_duration_is_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-1s", "5x", "1e9s", "9" * 400 + "d", "5 s", "nan", "infs"])
def test_duration_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="45s 5m 3h 2d"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("4k", 4096), ("2M", 2 << 20), ("1G", 1 << 30), ("512", 512)])
def test_size_counts_in_powers_of_two(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "4K", "4kB", "-4k", "9" * 30])
def test_size_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="4k 2M 1G"):
        parse_size(text)


def test_cpu_list_is_ascending_and_without_repeats():
    assert parse_cpus("3,0-2,2") == (0, 1, 2, 3)


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,", "0-99999", "1-", "4096"])
def test_cpu_list_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="0,2-3"):
        parse_cpus(text)


def test_geometry_is_written_from_the_top_and_read_from_the_bottom():
    assert parse_geometry("2x2x2x4") == (2, 1, 1, 1)
    assert parse_geometry("x86-64-4") == (9, 9, 9, 9)
    assert parse_geometry("x86-64-5") == (9, 9, 9, 9, 9)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=5).map(tuple))
def test_geometry_round_trips(bits):
    assert parse_geometry(format_geometry(bits)) == bits


@pytest.mark.parametrize("text", ["", "x86-64", "2x2", "2x2x2x2x2x2", "3x2x2", "1x2x2", "1024x2x2", "2xx2", "0x2x2", "²x2x2"])
def test_impossible_geometry_is_refused(text):
    with pytest.raises(UsageError, match="2x2x2x4"):
        parse_geometry(text)


@pytest.mark.parametrize(
    ("value", "pages"), [(7, 7), ("3 pages", 3), ("1 page", 1), ("2 tables", 1024), ("1/4 table", 128), ("1/9999 table", 1)]
)
def test_extent_is_pages_or_tables(value, pages):
    assert parse_extent(value, 512) == pages


@pytest.mark.parametrize("value", [0, -1, "0 tables", "table", "1/0 table", "1/2 page", "two tables", 1 << 60])
def test_extent_of_another_form_is_refused(value):
    with pytest.raises(UsageError, match="1/2 table"):
        parse_extent(value, 512)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"), (9999, "9,999"), (10000, "10.0 k"), (1_900_000, "1.9 M"), (123_456_789, "123 M"), (4.1e11, "410 G"),
        (5.3e39, "5.3e+39"),
    ],
)
def test_count_keeps_the_digits_that_matter(n, text):
    assert format_count(n) == text


def test_bytes_are_shown_as_the_kernel_shows_page_tables():
    assert format_kb(102_604 << 10) == "102,604 kB"


@pytest.mark.parametrize(("seconds", "text"), [(0.0031, "3.1 ms"), (15, "15.0 s"), (725, "12m05s"), (7380, "2h03m")])
def test_seconds_are_shown_in_the_unit_that_fits(seconds, text):
    assert format_seconds(seconds) == text
