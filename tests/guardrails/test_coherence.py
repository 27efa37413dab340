"""What is odd about a policy: by itself, against what is offered, against what stands above and below."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.coherence import WINDOWS, Placed, Shape, at_a_place, hidden_default, of_itself
from guardrails.offered import OfferedModel

DOLLAR = 10**9
SMALL = OfferedModel("small", ("acme",), 4096, 1, 4)
LARGE = OfferedModel("large", ("acme", "globex"), 8192, 10, 40)
FREE = OfferedModel("unpriced", ("globex",), 8192)
OFFERED = [SMALL, LARGE, FREE]


def budget(**windows: int) -> Shape:
    return Shape("P", {("budget", window): dollars * DOLLAR for window, dollars in windows.items()})


def place(shape: Shape, node: str = "Here") -> Placed:
    return Placed(shape, node)


# --- by itself ------------------------------------------------------------------------------------


def test_an_ordinary_policy_is_not_odd() -> None:
    shape = Shape(
        "P", {("budget", "day"): DOLLAR, ("budget", "month"): 20 * DOLLAR, ("rpm", "minute"): 60}, {"models": ["small"]}
    )
    assert of_itself(shape, OFFERED) == []
    assert at_a_place(place(shape), above=[place(budget(month=100), "Above")], below=[], offered=OFFERED) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (("budget", "day"), "$0.00 per day: every call is refused"),
        (("rpm", "minute"), "0 requests per minute: every call is refused"),
        (("keys", "now"), "0 API keys: no API key can be made"),
        (("seats", "now"), "0 members: no member can be added"),
    ],
)
def test_a_limit_of_zero(key: tuple[str, str], says: str) -> None:
    (warning,) = of_itself(Shape("P", {key: 0}))
    assert says in warning


def test_a_shorter_window_that_allows_more_than_a_longer_one() -> None:
    (warning,) = of_itself(budget(day=50, month=20))
    assert warning.startswith("$50.00 per day is more than $20.00 per month")


@given(st.dictionaries(st.sampled_from(WINDOWS), st.integers(1, 5)))
def test_budgets_are_odd_exactly_where_they_shrink_with_longer_windows(windows: dict[str, int]) -> None:
    values = [windows[window] for window in WINDOWS if window in windows]
    assert bool(of_itself(budget(**windows))) == (values != sorted(values))


def test_names_that_nothing_offered_bears() -> None:
    shape = Shape("P", rules={"models": ["SMALL", "gpt-*"], "blocked_models": ["lar?e", "x"], "providers": ["acme", "nobody"]})
    assert of_itself(shape, OFFERED) == [
        "“gpt-*” names no model that is offered now.",
        "“x” names no model that is offered now.",
        "“nobody” names no provider that is offered now.",
    ]
    assert of_itself(shape) == []


def test_more_tokens_than_any_allowed_model_writes() -> None:
    limits = {("max_tokens", "call"): 5000}
    assert of_itself(Shape("P", limits), OFFERED) == []
    (warning,) = of_itself(Shape("P", limits, {"models": ["small"]}), OFFERED)
    assert "more than 4,096 tokens" in warning
    assert of_itself(Shape("P", limits, {"models": ["x"]}), [OfferedModel("x")]) == []


@pytest.mark.parametrize(
    ("model", "rules", "says"),
    [
        ("small", {}, ""),
        ("large", {}, "large costs more than small"),
        ("large", {"models": ["large"]}, ""),
        ("small", {"models": ["large"]}, "does not allow small itself"),
        ("small", {"blocked_models": ["sm*"]}, "does not allow small itself"),
        ("gone", {}, "gone is not offered now"),
        ("unpriced", {}, "unpriced has no price"),
    ],
)
def test_the_model_that_calls_go_to(model: str, rules: dict[str, list[str]], says: str) -> None:
    shape = budget(month=5)._replace(rules=rules, degrade_model=model)
    found = of_itself(shape, OFFERED)
    assert len(found) == bool(says)
    assert says in " ".join(found)


def test_degrading_without_a_budget_never_happens() -> None:
    (warning,) = of_itself(Shape("P", {("rpm", "minute"): 5}, degrade_model="small"), OFFERED)
    assert "no budget" in warning


# --- at a place -----------------------------------------------------------------------------------


def test_a_child_above_its_parent() -> None:
    (warning,) = at_a_place(place(budget(month=100), "Team"), above=[place(budget(month=35), "Division")], below=[])
    assert warning == (
        "Team: $100.00 per month is more than “P” allows all of Division ($35.00 per month), which is reached first."
    )


def test_a_parent_below_its_child() -> None:
    (warning,) = at_a_place(place(budget(month=35), "Division"), above=[], below=[place(budget(month=100), "Team")])
    assert warning.startswith("Team: $100.00 per month")


def test_other_windows_are_not_compared() -> None:
    assert at_a_place(place(budget(day=100)), above=[place(budget(month=35))], below=[]) == []


@given(st.integers(0, 9), st.integers(0, 9))
def test_equal_or_less_is_not_odd(lower: int, upper: int) -> None:
    found = at_a_place(place(budget(month=lower)), above=[place(budget(month=upper))], below=[])
    assert bool(found) == (lower > upper)


@pytest.mark.parametrize(
    ("kind", "own", "other", "odd"),
    [
        ("models", ["gpt-*"], ["claude-*"], True),
        ("models", ["gpt-*"], ["*-mini"], False),
        ("providers", ["acme"], ["globex"], True),
        ("addresses", ["10.0.0.0/8"], ["10.7.0.0/16"], False),
        ("addresses", ["10.0.0.0/8"], ["192.0.2.0/24"], True),
        ("members", ["1", "2"], ["2", "3"], False),
        ("members", ["1"], ["2"], True),
    ],
)
def test_lists_that_leave_nothing(kind: str, own: list[str], other: list[str], odd: bool) -> None:
    above = [place(Shape("Q", rules={kind: other}), "Above")]
    assert bool(at_a_place(place(Shape("P", rules={kind: own})), above=above, below=[])) == odd
    assert at_a_place(place(Shape("P")), above=above, below=[]) == []


def test_models_that_a_policy_above_blocks() -> None:
    above = [place(Shape("Q", rules={"blocked_models": ["small"]}), "Above")]
    (warning,) = at_a_place(place(Shape("P", rules={"models": ["sm*"]}), "Team"), above=above, below=[], offered=OFFERED)
    assert warning == "Team: together with the policies above it none of the models offered now is left."


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"models": ["sm*"], "blocked_models": ["sm*"]}, "It blocks every offered model that it allows"),
        ({"models": ["small", "large"], "blocked_models": ["*"]}, "It blocks every offered model that it allows"),
        ({"blocked_models": ["*"]}, "It blocks every model offered now"),
    ],
)
def test_a_policy_that_blocks_all_it_allows_is_told_so_once(rules: dict[str, list[str]], says: str) -> None:
    shape = Shape("P", rules=rules)
    (warning,) = of_itself(shape, OFFERED)
    assert warning.startswith(says)
    assert at_a_place(place(shape, "Team"), above=[], below=[], offered=OFFERED) == []
    above = [place(Shape("Q", rules={"blocked_models": ["large"]}), "Above")]
    assert at_a_place(place(shape, "Team"), above=above, below=[], offered=OFFERED) == []


def test_a_policy_that_blocks_some_of_what_it_allows_is_not_odd() -> None:
    assert of_itself(Shape("P", rules={"models": ["*"], "blocked_models": ["large"]}), OFFERED) == []


def test_allowing_what_is_not_offered_is_no_blocking() -> None:
    (warning,) = of_itself(Shape("P", rules={"models": ["claude-*"]}), OFFERED)
    assert warning == "“claude-*” names no model that is offered now."


@given(st.sets(st.sampled_from(["small", "large", "unpriced"])), st.sets(st.sampled_from(["small", "large", "unpriced"])))
def test_blocking_itself_is_said_exactly_where_nothing_is_left(allowed: set[str], blocked: set[str]) -> None:
    shape = Shape("P", rules={"models": sorted(allowed), "blocked_models": sorted(blocked)})
    left = (allowed or {"small", "large", "unpriced"}) - blocked
    assert bool(of_itself(shape, OFFERED)) == (not left)


def test_one_of_a_kind_is_singular() -> None:
    above = [place(Shape("Q", {("parallel", "now"): 1}), "Division")]
    (warning,) = at_a_place(place(Shape("P", {("parallel", "now"): 2}), "Team"), above=above, below=[])
    assert "2 parallel calls is more" in warning
    assert "(1 parallel call)" in warning


def test_the_nearest_default_counts() -> None:
    own, other = place(Shape("P"), "Team"), place(Shape("Q"), "Division")
    (above,) = hidden_default(own, above=[other], below=[], what="members")
    assert "takes the place of the default “Q” of Division" in above
    (below,) = hidden_default(own, above=[], below=[other], what="keys")
    assert "does not come to the keys below Division" in below
