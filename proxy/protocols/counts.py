"""Numbers of tokens as providers report them: what cannot be one counts as not reported."""

# More tokens than any call can have: a figure beyond it is a provider's mistake, not a bill.
ABSURD_TOKENS = 10**9
# The most that an answer is asked to have: all that any client means by "as many as there are". At every price thousands of
# such calls can be held for at once. Larger numbers mean the same, up to the last that JavaScript can count to.
MOST_ASKED, MOST_TAKEN = 2**31 - 1, 2**53

# Searches that a provider makes itself are held for up to what the caller allows; so many where it says nothing, and never
# more than any call makes.
USUAL_SEARCHES, MOST_SEARCHES = 10, 1000


def searches(allowed: object) -> int:
    """The most to hold for."""
    most = count(allowed)
    return USUAL_SEARCHES if most is None else min(most, MOST_SEARCHES)


def count(value: object) -> int | None:
    """A number of tokens; None for what cannot be one. Some languages write 12 as 12.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < ABSURD_TOKENS:
        return None
    return value


def first_count(*values: object) -> int:
    for value in values:
        if (number := count(value)) is not None:
            return number
    return 0
