"""How many examples tests of drawn input take: few in a run of all tests, more where somebody has the time.

`THOROUGH=20 make test` takes twenty times as many, others each time, and gives tests twenty times as long.
"""

import os

TIMES = int(os.environ.get("THOROUGH") or 1)
# Of a test that does not say otherwise, in place of Hypothesis' own hundred.
USUAL = 40


def some(number: int) -> int:
    return number * TIMES
