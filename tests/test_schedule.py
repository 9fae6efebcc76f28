"""Replay strings come back as they were, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ptstress.errors import UsageError
from ptstress.schedule import FORMAT, OUTCOMES, Replay, decode, encode, pack_choices, unpack_choices

EXAMPLE = Replay(
    fingerprint="sched 0.1.0 3f2a", program="t0: write(p3); dontneed(p0..p8)\nt1: walk(p0..p8)  # naïve ✓",
    scheme="linux-6.18", geometry=(2, 1, 1, 1), bugs=("P01",), knobs={"need_resched": 2, "reuse": "lifo"},
    seed=(1 << 64) - 1, choices=bytes([0] * 30 + [1] * 12 + [0, 1] * 4), trace_hash=12345)

replays = st.builds(
    Replay,
    fingerprint=st.text(max_size=20), program=st.text(max_size=80), scheme=st.text(max_size=20),
    geometry=st.lists(st.integers(1, 9), min_size=3, max_size=5).map(tuple),
    bugs=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    knobs=st.dictionaries(st.text(max_size=8), st.integers(0, (1 << 32) - 1) | st.text(max_size=5), max_size=4),
    seed=st.integers(0, (1 << 64) - 1),
    choices=st.lists(st.tuples(st.integers(0, 63), st.integers(1, 300)), max_size=20).map(
        lambda runs: b"".join(bytes([fibre]) * length for fibre, length in runs)),
    max_steps=st.integers(1, 10_000_000),
    outcome=st.sampled_from(OUTCOMES),
    trace_hash=st.integers(0, (1 << 64) - 1),
)


@given(replays)
def test_every_replay_comes_back_as_it_was(replay):
    assert decode(encode(replay)) == replay


@given(st.binary(max_size=200))
def test_choices_survive_packing(choices):
    assert unpack_choices(pack_choices(choices)) == choices


def test_a_string_is_one_printable_word():
    text = encode(EXAMPLE)
    assert text.isascii() and text.isprintable() and not set(text) & set(" \"'$\\!&;|<>*?()`")


def test_a_typical_schedule_costs_few_characters():
    long_runs = Replay(**{f: getattr(EXAMPLE, f) for f in EXAMPLE.__struct_fields__} | {
        "choices": bytes([0] * 200 + [1] * 150 + [0] * 90 + [2] * 300)})
    assert len(encode(long_runs)) < 300


def test_a_string_that_was_wrapped_by_a_mailer_is_read():
    text = encode(EXAMPLE)
    assert decode(" " + text[:40] + "\n  " + text[40:] + "\n") == EXAMPLE


@given(st.data())
def test_no_changed_character_goes_unnoticed(data):
    text = encode(EXAMPLE)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != text[at]))
    with pytest.raises(UsageError) as refused:
        decode(text[:at] + other + text[at + 1:])
    assert "\n" not in str(refused.value)


def test_no_cut_string_is_read():
    text = encode(EXAMPLE)
    for length in range(len(text)):
        with pytest.raises(UsageError, match="cut|expected it to begin"):
            decode(text[:length])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: "", "expected it to begin with 'pts1_', not ''"),
        (lambda text: "hello", "expected it to begin with 'pts1_', not 'hello'"),
        (lambda text: text.replace("pts1_", f"pts{FORMAT + 1}_"), "it has format 2, this ptstress reads format 1"),
        (lambda text: text[:-8], "it is cut or altered: "),
        (lambda text: text + "AAAA", "it is altered: 3 bytes too many"),
        (lambda text: text[:50] + ("A" if text[50] != "A" else "B") + text[51:], "its checksum does not match"),
        (lambda text: text[:50] + "=" + text[51:], "'=' cannot occur in it"),
        (lambda text: text[:50] + "é" + text[51:], "'é' cannot occur in it"),
    ],
)
def test_a_refusal_says_what_is_wrong(change, message):
    with pytest.raises(UsageError, match="^replay string: .*" + message) as refused:
        decode(change(encode(EXAMPLE)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("seed", -1, "seed: expected a whole number below 2^64, not -1"),
        ("max_steps", 0, "max_steps: expected 1 to 10000000, not 0"),
        ("max_steps", 10**12, "max_steps: expected 1 to 10000000"),
        ("geometry", (), "geometry: expected 3 to 5 levels"),
        ("geometry", (2, -1, 2), "geometry: expected 3 to 5 levels of 1 to 9 bits"),
        ("knobs", {"need_resched": -5}, "knobs: expected whole numbers below"),
        ("knobs", {"need_resched": None}, "Expected `int | str`, got `"),
        ("outcome", "bad luck", "outcome: expected one of pass, violation"),
        ("bugs", "P01", "Expected `array`"),
    ],
)
def test_a_string_that_no_execution_can_have_made_is_refused(field, value, message):
    with pytest.raises(UsageError, match="its checksum is right but its content is not") as refused:
        decode(encode(structs.replace(EXAMPLE, **{field: value})))
    assert message in str(refused.value) and "\n" not in str(refused.value)
