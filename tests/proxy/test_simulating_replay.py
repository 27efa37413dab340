"""A replay refuses exactly what a naive one refuses: any limits, subjects, calendar, days on which clocks change included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations, product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.windows import Calendar
from proxy.simulating.proposal import Limit, Proposal, Rule, Target
from proxy.simulating.replay import Recent, Replay, Row, Windows
from proxy.simulating.result import MOST_FIRSTS, TOP_SUBJECTS, shaped, subjects_named
from proxy.simulating.tally import SAMPLE
from tests.examples import some
from tests.proxy.naive_replay import Call, Naive, Refusal, governing, subjects_of

BY_UTC = Calendar("UTC")
ROOT, ENGINEERING, PLATFORM, SALES = 1, 2, 3, 4
MIA, NOAH = 11, 12
ASSISTANT, CRAWLER = 31, 32
# Paths of keys: (groups from the root down, member, key, application).
PATHS = [
    ((ROOT, ENGINEERING, PLATFORM), MIA, 21, ASSISTANT),
    ((ROOT, ENGINEERING), MIA, 22, None),
    ((ROOT, SALES), MIA, 23, CRAWLER),
    ((ROOT, SALES), NOAH, 24, ASSISTANT),
    ((ROOT,), None, 25, CRAWLER),
]
MODELS = ("small", "large")
PROVIDERS = ("main", "spare", "elsewhere")
# Moments around which windows begin: clocks jump or fall back (Berlin, New York), months, quarters and years turn.
AWKWARD = [
    datetime(2026, 3, 29, 0, 55, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 40, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 50, tzinfo=UTC),
    datetime(2026, 6, 30, 21, 58, tzinfo=UTC),
    datetime(2026, 12, 31, 22, 57, tzinfo=UTC),
    datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
]
# What is one of few things is drawn at once, which takes a third of the time.
CALENDARS = st.sampled_from(
    [
        Calendar(*chosen)
        for chosen in product(
            ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"),
            range(7),
            range(1, 13),
            (0, 1, 2, 3, 9, 23),
        )
    ]
)
BUDGET_WINDOWS: tuple[Any, ...] = ("day", "week", "month", "quarter", "year", "total")
LIMITS = st.one_of(
    st.sampled_from([Limit("budget", *chosen) for chosen in product(BUDGET_WINDOWS, range(61), (False, True))]),
    st.sampled_from([Limit("rpm", "minute", value) for value in range(1, 5)]),
    st.sampled_from([Limit("tpm", "minute", value) for value in range(1, 61)]),
    st.sampled_from([Limit("rpd", "day", value) for value in range(1, 7)]),
    st.sampled_from([Limit("parallel", "now", value) for value in range(1, 4)]),
    st.sampled_from([Limit("max_tokens", "call", value) for value in range(1, 26)]),
)


def up_to_two(of: Sequence[str]) -> list[tuple[str, ...]]:
    """Of one, or of none, as often as two."""
    return [(), *((one,) for one in of)] * len(of) + list(product(of, repeat=2))


KINDS: tuple[Any, ...] = ("models", "blocked_models")
RULES = st.one_of(
    st.sampled_from([Rule(kind, models) for kind in KINDS for models in up_to_two(MODELS)]),
    st.sampled_from([Rule("providers", providers) for providers in up_to_two(PROVIDERS)]),
    st.sampled_from([Rule("members", of) for of in ((), (str(MIA),), (str(NOAH),))]),
)
SUBJECTS: tuple[Any, ...] = ("group", "members", "keys")
TARGETS = st.one_of(
    st.sampled_from([Target(*chosen) for chosen in product(SUBJECTS, (ROOT, ENGINEERING, PLATFORM, SALES))]),
    st.sampled_from([Target("application", which) for which in (ASSISTANT, CRAWLER)]),
)
PROPOSALS = st.builds(
    lambda limits, rules, targets: Proposal(tuple(limits), tuple(rules), tuple(targets)),
    st.lists(LIMITS, max_size=4, unique_by=lambda limit: (limit.kind, limit.window)),
    st.lists(RULES, max_size=2, unique_by=lambda rule: rule.kind),
    st.lists(TARGETS, min_size=1, max_size=4, unique=True),
)


# Milliseconds: close together now and then, or days apart, near something awkward.
DISTANCES = st.one_of(st.integers(-90, 90), st.integers(-5_000, 5_000), st.integers(-200_000, 200_000))
NEAR = st.sampled_from([(int(near.timestamp()), thousandths) for near in AWKWARD for thousandths in range(1000)])


def moment(near: tuple[int, int], seconds: int) -> int:
    return (near[0] + seconds) * 1000 + near[1]


MOMENTS = st.builds(moment, NEAR, DISTANCES)
# Path, seconds until it was recorded, model, how long it ran, whether on a key of its own, who served it.
PLACES = st.sampled_from(
    list(
        product(
            PATHS,
            (0, 0, 1, 7, 300),
            MODELS,
            (None, 0, 1, 900, 60_000, 600_000),
            (True, False, False, False),
            [tried for number in range(3) for tried in permutations(PROVIDERS, number)],
        )
    )
)
TOKENS = st.sampled_from(list(product(range(41), range(31))))
# Of ten rows nine are calls, which nobody is paid for.
COSTS = st.sampled_from(
    [(is_call, abs(cost) if is_call else cost) for is_call in [True] * 9 + [False] for cost in range(-10, 21)],
)


def called(number: int, at: int, place: Any, costing: tuple[bool, int], size: tuple[int, int]) -> Call:
    (groups, member, key, application), late, model, ran, on_own_key, providers = place
    (is_call, cost), (tokens, output) = costing, size
    return Call(
        at=at,
        recorded=at // 1000 + late,
        charged=0 if on_own_key else cost,
        own=cost if on_own_key else 0,
        tokens=tokens,
        output=output,
        groups=groups,
        member=member,
        key=key,
        application=application,
        model=model,
        is_call=is_call,
        number=number,
        ran=ran,
        providers=providers,
    )


@st.composite
def rows(draw: st.DrawFn) -> tuple[Any, ...]:
    return moment(draw(NEAR), draw(DISTANCES)), draw(PLACES), draw(COSTS), draw(TOKENS)


LEDGERS = st.lists(rows(), max_size=40).map(
    lambda drawn: sorted((called(number, *one) for number, one in enumerate(drawn)), key=lambda call: call.id)
)


def path(call: Call) -> tuple[int | None, ...]:
    padded = (*call.groups, *[None] * (5 - len(call.groups)))
    return (*padded, call.member, call.key, call.application)


def row(call: Call) -> Row:
    return (
        call.id, call.recorded, call.charged, call.tokens, call.output, call.is_call, call.model, call.own,
        call.ran, "\n".join(call.providers), *path(call),
    )  # fmt: skip


class Watched(Replay):
    """Remembers every refusal, which a tally does not."""

    def __init__(self, proposal: Proposal, calendar: Calendar) -> None:
        super().__init__(proposal, calendar=calendar)
        self.refusals: list[Refusal] = []
        add_up = self.tally.refuse

        def refuse(row: Row, **found: Any) -> None:
            self.refusals.append((row[0], *found["verdict"]))
            add_up(row, **found)

        self.tally.refuse = refuse  # type: ignore[method-assign]


def replayed(proposal: Proposal, calls: list[Call], *, history: tuple[Call, ...] = (), calendar: Calendar = BY_UTC) -> Watched:
    replay = Watched(proposal, calendar)
    for call in history:
        replay.count(path(call), recorded=call.recorded, charged=call.charged, own=call.own)
    replay.judge(row(call) for call in calls)
    return replay


@settings(max_examples=some(120), deadline=None)
@given(PROPOSALS, LEDGERS, CALENDARS, st.integers(0, 40))
def test_it_refuses_what_a_naive_replay_refuses(proposal: Proposal, calls: list[Call], calendar: Calendar, before: int) -> None:
    history, period = calls[:before], calls[before:]
    replay = replayed(proposal, period, history=tuple(history), calendar=calendar)
    assert replay.refusals == Naive(proposal, calendar, history).replay(period)


@settings(max_examples=some(60), deadline=None)
@given(PROPOSALS, LEDGERS, CALENDARS)
def test_what_is_added_up_is_what_was_refused(proposal: Proposal, calls: list[Call], calendar: Calendar) -> None:
    replay = replayed(proposal, calls, calendar=calendar)
    result = shaped(replay.tally, days=())
    by_id = {call.id: call for call in calls}
    refused = [(by_id[call_id], number, subject) for call_id, number, subject in replay.refusals]
    governed = [call for call in calls if call.is_call and governing(call, proposal)]
    assert result["refused"] == [len(refused), sum(call.charged for call, _, _ in refused)]
    assert result["passed"] == [len(governed) - len(refused), sum(c.charged for c in governed) - result["refused"][1]]
    for what in ("limits", "firsts"):
        assert sum(one["calls"] for one in result[what]) == len(refused)
        assert sum(one["nano_usd"] for one in result[what]) == result["refused"][1]
    lines = Counter((subject, number) for _, number, subject in refused)
    told = {(one["subject"], one["number"]): one["calls"] for one in result["subjects"]}
    assert told.items() <= lines.items()
    assert (len(told), result["subject_line_count"]) == (min(len(lines), TOP_SUBJECTS), len(lines))
    for side in ("passed", "refused"):
        assert [sum(column) for column in zip(*(day[side] for day in result["days"]), strict=True)] in (result[side], [])
    assert subjects_named(result) == {subject for _, _, subject in refused}


@settings(max_examples=some(50), deadline=None)
@given(PROPOSALS, LEDGERS, CALENDARS)
def test_each_window_names_its_first_refusal(proposal: Proposal, calls: list[Call], calendar: Calendar) -> None:
    replay = replayed(proposal, calls, calendar=calendar)
    earliest: dict[tuple[int, str], UUID] = {}
    for call_id, number, subject in replay.refusals:
        earliest.setdefault((number, subject), call_id)
    told: dict[tuple[int, str], str] = {}
    for first in shaped(replay.tally, days=())["firsts"]:
        told.setdefault((first["number"], first["subject"]), first["call_id"])
    assert told == {which: str(call_id) for which, call_id in earliest.items()}


@settings(max_examples=some(50), deadline=None)
@given(PROPOSALS, LEDGERS, CALENDARS)
def test_no_budget_is_passed_by_what_is_let_through(proposal: Proposal, calls: list[Call], calendar: Calendar) -> None:
    proposal = Proposal(tuple(one for one in proposal.limits if one.kind == "budget"), (), proposal.targets)
    calls = [call for call in calls if call.is_call]
    gone = {call_id for call_id, _, _ in replayed(proposal, calls, calendar=calendar).refusals}
    naive = Naive(proposal, calendar, [])
    for limit in proposal.limits:
        sums: dict[object, int] = {}
        for call in calls:
            if call.id in gone:
                continue
            for subject in governing(call, proposal):
                if not any(target.kind == "members" for target in proposal.targets):
                    where = (subject, naive.window(call.recorded, limit.window))
                    sums[where] = sums.get(where, 0) + call.charged
        assert all(spent <= limit.value for spent in sums.values())


# --- by hand --------------------------------------------------------------------------------------

NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)


def call(seconds: float = 0, *, charged: int = 10, of: int = 0, **fields: Any) -> Call:
    """So many seconds after noon."""
    groups, member, key, application = PATHS[of]
    at = NOON + round(seconds * 1000)
    return Call(
        at=at, recorded=fields.pop("recorded", at // 1000), charged=charged, tokens=fields.pop("tokens", 5),
        output=fields.pop("output", 2), groups=groups, member=member, key=key, application=application, **fields,
    )  # fmt: skip


def on(*targets: tuple[str, int], limits: tuple[Limit, ...] = (), rules: tuple[Rule, ...] = ()) -> Proposal:
    return Proposal(limits, rules, tuple(Target(kind, number) for kind, number in targets))  # type: ignore[arg-type]


def test_a_refused_call_leaves_room_for_a_cheaper_one() -> None:
    daily = on(("group", ROOT), limits=(Limit("budget", "day", 25),))
    calls = [call(0, charged=20), call(1, charged=6), call(2, charged=5), call(3, charged=1)]
    assert [call_id for call_id, _, _ in replayed(daily, calls).refusals] == [calls[1].id, calls[3].id]


def test_the_budget_with_least_room_is_named_and_on_a_tie_the_most_specific() -> None:
    both = on(("group", ROOT), ("group", ENGINEERING), limits=(Limit("budget", "day", 15),))
    assert replayed(both, [call(0), call(1)]).refusals[0][1:] == (0, "g2")
    busy = [call(0, of=3, charged=9), call(1), call(2)]
    assert replayed(both, busy).refusals[0][1:] == (0, "org")


def test_spend_of_the_running_window_counts_before_the_period() -> None:
    monthly = on(("members", ROOT), limits=(Limit("budget", "month", 25),))
    earlier = (call(-86_400, charged=20), call(-40 * 86_400, charged=1000))
    assert len(replayed(monthly, [call(0, charged=5), call(1, charged=1)], history=earlier).refusals) == 1


def test_a_call_counts_in_the_window_it_was_recorded_in() -> None:
    daily = on(("group", ROOT), limits=(Limit("budget", "day", 10),))
    midnight = 12 * 3600
    late = call(midnight - 5, recorded=NOON // 1000 + midnight + 5)
    assert replayed(daily, [call(0), late]).refusals == []
    assert len(replayed(daily, [call(0), late, call(midnight + 60)]).refusals) == 1


def test_a_member_is_judged_below_the_group_alone_but_spends_everywhere() -> None:
    below = on(("members", ENGINEERING), limits=(Limit("budget", "day", 15),))
    assert replayed(below, [call(0, of=2), call(1, of=2), call(2, of=0)]).refusals == [(call(2, of=0).id, 0, f"m{MIA}")]


def test_each_key_has_a_budget_of_its_own() -> None:
    each = on(("keys", ROOT), limits=(Limit("budget", "total", 10),))
    calls = [call(second, of=second % 5) for second in range(10)]
    assert {subject for _, _, subject in replayed(each, calls).refusals} == {"k21", "k22", "k23", "k24", "k25"}


def test_rates_slide_over_sixty_one_second_buckets() -> None:
    two = on(("application", ASSISTANT), limits=(Limit("rpm", "minute", 2),))
    calls = [call(0), call(0.5), call(59.9), call(60), call(60.5), call(61)]
    assert [call_id for call_id, _, _ in replayed(two, calls).refusals] == [calls[2].id, calls[5].id]


def test_tokens_of_a_minute_and_of_one_answer() -> None:
    tokens = on(("group", ROOT), limits=(Limit("tpm", "minute", 12), Limit("max_tokens", "call", 100)))
    calls = [call(0, tokens=10), call(1, tokens=3), call(2, tokens=2), call(70, tokens=1, output=101)]
    assert [(call_id, number) for call_id, number, _ in replayed(tokens, calls).refusals] == [(calls[1].id, 0), (calls[3].id, 1)]


def test_calls_at_the_same_time_are_those_that_have_not_ended() -> None:
    two = on(("group", ROOT), limits=(Limit("parallel", "now", 2),))
    calls = [call(0, ran=9_000), call(1, ran=2_000), call(2, ran=5_000), call(3, ran=0), call(4), call(8.999, ran=0), call(9)]
    # The third is refused, so it runs at no time; at 3 s the second has ended.
    assert [call_id for call_id, _, _ in replayed(two, calls).refusals] == [calls[2].id]


def test_a_call_of_unknown_length_ran_until_it_was_recorded() -> None:
    one = on(("keys", ROOT), limits=(Limit("parallel", "now", 1),))
    lost = call(0, ran=None, recorded=NOON // 1000 + 60)
    calls = [lost, call(30), call(30, of=1), call(59.999), call(60)]
    assert [call_id for call_id, _, _ in replayed(one, calls).refusals] == [calls[1].id, calls[3].id]


def test_a_provider_is_refused_where_no_other_could_have_taken_the_call() -> None:
    lists = on(
        ("group", ROOT),
        ("group", ENGINEERING),
        limits=(Limit("max_tokens", "call", 8),),
        rules=(Rule("providers", ("MA*", "s*")),),
    )
    calls = [
        call(0, providers=("main",)),
        call(1, providers=("elsewhere", "spare")),
        call(2, providers=("elsewhere", "third")),
        call(3, providers=()),
        # The bound on its answer comes first.
        call(4, providers=("elsewhere",), output=9),
    ]
    assert replayed(lists, calls).refusals == [(calls[2].id, 1, "g2"), (calls[4].id, 0, "g2")]


def test_models_are_matched_as_rules_match_them() -> None:
    only = on(("group", SALES), rules=(Rule("models", ("SMALL*",)), Rule("blocked_models", ("*-preview",))))
    calls = [
        call(0, of=3, model="small-2"),
        call(1, of=3, model="large"),
        call(2, of=3, model="small-preview"),
        call(3, of=0, model="large"),
    ]
    assert [(call_id, number) for call_id, number, _ in replayed(only, calls).refusals] == [(calls[1].id, 0), (calls[2].id, 1)]


def test_nobody_would_have_been_refused() -> None:
    wide = on(("group", ROOT), limits=(Limit("budget", "month", 10**18),))
    result = shaped(replayed(wide, [call(n) for n in range(5)]).tally, days=[NOON // 1000 // 86_400 * 86_400])
    assert (result["passed"], result["refused"], result["firsts"], result["sample"]) == ([5, 50], [0, 0], [], [])
    assert [day["passed"] for day in result["days"]] == [[5, 50]]


def test_the_sample_is_of_the_dearest_and_everything_stays_small() -> None:
    nothing = on(("keys", ROOT), limits=(Limit("budget", "day", 0),))
    groups, member, _, application = PATHS[0]
    calls = [Call(NOON + n, NOON // 1000, n % 300 + 1, 1, 1, groups, member, 100 + n, application, number=n) for n in range(1000)]
    result = shaped(replayed(nothing, calls).tally, days=())
    assert [one["nano_usd"] for one in result["sample"]] == sorted((c.charged for c in calls), reverse=True)[:SAMPLE]
    assert [one["at"] for one in result["sample"][:3]] == sorted(one["at"] for one in result["sample"][:3])
    assert (len(result["subjects"]), result["subject_count"], result["subject_line_count"]) == (TOP_SUBJECTS, 1000, 1000)
    assert (len(result["firsts"]), result["first_count"]) == (MOST_FIRSTS, 1000)


def test_what_each_limit_refused_a_subject_is_told_apart() -> None:
    limits = (Limit("max_tokens", "call", 3), Limit("budget", "total", 0))
    calls = [call(0, output=9), call(1), call(2)]
    result = shaped(replayed(on(("group", ROOT), limits=limits), calls).tally, days=())
    by_limit = {one["number"]: one for one in result["limits"]}
    assert [(one["subject"], one["number"], one["calls"]) for one in result["subjects"]] == [("org", 1, 2), ("org", 0, 1)]
    assert all(one["nano_usd"] == by_limit[one["number"]]["nano_usd"] for one in result["subjects"])
    assert [one["at"] for one in result["subjects"]] == [
        first["at"] for number in (1, 0) for first in result["firsts"] if first["number"] == number
    ]
    assert (result["subject_count"], result["subject_line_count"]) == (1, 2)


@given(CALENDARS, st.sampled_from(["day", "week", "month", "quarter", "year"]), st.lists(MOMENTS, min_size=1, max_size=30))
def test_windows_are_those_of_budgets_whatever_was_asked_before(calendar: Calendar, kind: Any, asked: list[int]) -> None:
    found, naive = Windows(kind, calendar), Naive(on(), calendar, [])
    for at in asked:
        start = naive.window(at // 1000, kind)
        assert start is not None
        assert found.start(at // 1000) == int(start.timestamp())


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=40))
def test_a_rate_sums_the_last_minute(added: list[tuple[int, int]]) -> None:
    recent, known = Recent(), []
    for second, amount in sorted(added):
        recent.add(second, amount)
        known.append((second, amount))
        assert recent.seen(second) == sum(amount for at, amount in known if at > second - 60)


@pytest.mark.parametrize("of", range(5))
def test_subjects_go_from_the_key_to_the_organisation(of: int) -> None:
    everything = on(
        *(("group", group) for group in (ROOT, ENGINEERING, PLATFORM, SALES)), ("members", ROOT), ("keys", ROOT),
        ("application", ASSISTANT), ("application", CRAWLER), limits=(Limit("rpm", "minute", 1),),
    )  # fmt: skip
    lane = Replay(everything, calendar=Calendar("UTC"))._built(path(call(of=of)))
    assert [rate.verdict.subject for rate in lane.rates] == subjects_of(call(of=of))
