"""How many examples tests of drawn input take: few in a run of all tests, more where somebody has the time.

`THOROUGH=20 make test` takes twenty times as many, others each time, and gives tests twenty times as long.
"""

import os

TIMES = int(os.environ.get("THOROUGH") or 1)
# Of a test that does not say otherwise, in place of Hypothesis' own hundred.
USUAL = 40


def some(number: int) -> int:
    return number * TIMES


def tried(codes: list[str], turn: int) -> list[int]:
    """Of people in a row, by what each is answered: who stands beside somebody that is answered otherwise, the first, and whose
    turn it is; all of them where there is time.
    """
    last = len(codes) - 1
    if TIMES > 1:
        return list(range(last + 1))
    borders = {place for at in range(last) if codes[at] != codes[at + 1] for place in (at, at + 1)}
    return sorted({0, turn % (last + 1), *borders})
