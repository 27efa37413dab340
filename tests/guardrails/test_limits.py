"""The limits of one key as scripts read them: words, names of keys, positions; and the path they lie on."""

from typing import Any

import msgspec

from gateway_project.lib.money import NANO
from guardrails import counters
from guardrails.limits import Kind, Limits, Subject, path_subjects, script_words
from tests.guardrails.books import SUBJECTS, budget, limit, rpm
from tests.guardrails.principals import MIA, PATH

# Of each limit: kind, subject, value, what may be used of it, position of what it counts.
WORDS = 5


def limits(*found: object, generation: str = "a1b2") -> Limits:
    return Limits(7, generation, SUBJECTS, found)  # type: ignore[arg-type]


def test_the_path_runs_from_the_key_to_the_pool() -> None:
    assert path_subjects(MIA) == [
        Subject("k50", "key", "Mia's key"),
        Subject("a60", "application", "Assistant"),
        Subject("m40", "member", "Mia"),
        Subject("g3", "group", "platform"),
        Subject("g2", "group", "engineering"),
        Subject("org", "organization", "Acme"),
        Subject("pool", "credit pool", "Acme"),
    ]


def test_a_service_key_without_member_and_application_has_a_shorter_path() -> None:
    service = msgspec.structs.replace(MIA, member_id=None, application_id=None, path=PATH[:1])
    assert [subject.name for subject in path_subjects(service)] == ["k50", "org", "pool"]


def test_the_words_of_the_script_count_subjects_from_one() -> None:
    near = limit("budget", 50, "m1", window="day", starts_ms=5, ends_ms=90, until_ms=60, keep=9, degrade_model="cheap")
    assert words(limits(rpm(60), near, budget(70, "pool"))) == [
        *("r", 1, 60, False, 0),
        *("b", 2, 50, 41, 1),
        *("b", 5, 70, False, 0),
    ]


def test_with_one_large_amount_all_of_them_are_text_that_keeps_every_digit() -> None:
    pool = budget(9_100_000 * NANO + 1, "pool")
    near = limit("budget", 50, "m1", keep=9, degrade_model="cheap")
    found = limits(rpm(60), near, pool)
    assert script_words(found.judged, len(SUBJECTS))[2] is True
    assert words(found) == [
        *("r", 1, 60, False, 0),
        *("b", 2, "50", "41", 0),
        *("b", 5, "9100000000000001", False, 0),
    ]


def test_limits_hold_together_for_the_time_in_which_each_of_them_does() -> None:
    month: dict[str, Any] = {"window": "month", "starts_ms": 3, "ends_ms": 90}
    found = limits(
        limit("budget", 50, "m1", until_ms=90, **month),
        limit("budget", 50, "k1", until_ms=70, **month),
        limit("rpd", 9, "m1", window="day", starts_ms=5, ends_ms=80, until_ms=80),
        # Of these nothing changes by the passing of time.
        limit("budget", 60, "org", starts_ms=8),
        rpm(60),
    )
    assert script_words(found.judged, len(SUBJECTS))[:2] == [5, 70]
    assert script_words(limits(rpm(60)).judged, len(SUBJECTS))[:2] == [0, 0]


def test_the_words_travel_one_after_another() -> None:
    found = limits(limit("budget", 50, "m1", window="day", starts_ms=5, ends_ms=90, until_ms=60), rpm(60))
    expected = script_words(found.judged, len(SUBJECTS))
    assert msgspec.msgpack.decode(b"\xdc" + len(expected).to_bytes(2) + found.packed) == expected


def test_each_subject_names_the_fields_of_its_windows_once() -> None:
    month: dict[str, Any] = {"window": "month", "starts_ms": 3, "ends_ms": 90}
    day: dict[str, Any] = {"window": "day", "starts_ms": 5, "ends_ms": 8}
    found = limits(
        limit("budget", 50, "m1", **month),
        limit("budget", 40, "m1", **day),
        limit("rpd", 9, "m1", **day),
        limit("budget", 60, "m1", **month),
        limit("budget", 70, "org", **month),
    )
    assert words(found)[4::WORDS] == [1, 3, 5, 1, 1]
    assert fields(found) == [[], ["b:3", "o:3", "b:5", "o:5", "q:5"], [], ["b:3", "o:3"], []]


def test_every_kind_that_is_judged_has_a_letter_of_its_own() -> None:
    kinds: list[Kind] = ["budget", "rpm", "tpm", "rpd", "parallel"]
    packed = words(limits(*(limit(kind, 1, "k1") for kind in kinds)))
    assert packed[::WORDS] == ["b", "r", "t", "d", "p"]


def test_a_bound_on_output_is_not_sent_to_the_script() -> None:
    found = limits(limit("max_tokens", 100, "k1"), rpm(5))
    assert [one.kind for one in found.judged] == ["rpm"]
    assert len(words(found)) == WORDS


def test_the_tightest_bound_on_output_counts() -> None:
    bounds = [limit("max_tokens", value, subject) for value, subject in ((300, "k1"), (200, "m1"), (400, "org"))]
    assert limits(*bounds).max_tokens == bounds[1]
    assert limits(rpm(1)).max_tokens is None


def test_names_of_rates_travel_only_where_a_limit_is_one() -> None:
    assert limits(budget(1), limit("parallel", 1, "k1"), limit("rpd", 1, "k1")).rate_keys == ()
    kinds: list[Kind] = ["rpm", "tpm"]
    for kind in kinds:
        found = limits(limit(kind, 60, "org"))
        assert len(found.rate_keys) == len(found.counter_keys) == len(SUBJECTS)


def test_names_lie_under_the_generation_in_the_order_of_the_subjects() -> None:
    found = limits(rpm(1), generation="c3d4")
    assert found.counter_keys == tuple(f"gh:{{7}}:c3d4:c:{subject}".encode() for subject in SUBJECTS)
    assert found.rate_keys == tuple(f"gh:{{7}}:c3d4:r:{subject}".encode() for subject in SUBJECTS)


def test_the_record_of_a_hold_names_whose_tokens_and_running_calls_are_counted() -> None:
    found = limits(
        limit("tpm", 1, "org"), limit("tpm", 2, "k1"), limit("tpm", 3, "k1"), limit("parallel", 1, "m1"), limit("rpm", 1, "g1")
    )
    assert found.counted == "1,4|2"
    assert limits(budget(1)).counted == "|"


def test_limits_are_over_once_one_of_them_changes() -> None:
    found = limits(limit("budget", 1, "k1", until_ms=100), limit("budget", 1, "k1", until_ms=90), rpm(1))
    assert not found.is_over(89.9)
    assert found.is_over(90)
    assert not limits(rpm(1)).is_over(1e15)


def test_what_a_reset_forgave_is_not_shown_as_a_higher_limit() -> None:
    assert limit("budget", 130, "k1", forgiven=30).shown_value == 100


def test_the_pool_is_known_by_its_level() -> None:
    assert limit("budget", 1, "pool", level="credit pool").is_pool
    assert not limit("budget", 1, "org", level="organization").is_pool


def words(found: Limits) -> list[str | int | bool]:
    """Of the limits alone, `WORDS` for each."""
    every = script_words(found.judged, len(SUBJECTS))
    return every[4 : 4 + WORDS * len(found.judged)]


def fields(found: Limits) -> list[list[str | int | bool]]:
    """What each subject counts its limits in."""
    rest = iter(script_words(found.judged, len(SUBJECTS))[4 + WORDS * len(found.judged) :])
    return [[next(rest) for _ in range(int(number))] for number in rest]


def test_keys_of_one_organisation_share_a_hash_tag() -> None:
    names = [
        counters.generation(7),
        counters.holds(7, "t"),
        counters.counter(7, "t", "k1"),
        counters.rate(7, "t", "k1"),
        counters.tombstone(7, "t", "c"),
    ]
    assert len(set(names)) == len(names)
    assert {name[: name.index("}") + 1] for name in names} == {"gh:{7}"}
