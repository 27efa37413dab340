"""How long a sound file plays at most, from its own header: whole seconds, rounded up.

A header that says less than the file can hold is not believed: no usual format needs more than MOST_BYTES_PER_SECOND. A
file that no header can be read of (or of a format that has none, such as WebM from a browser) is taken to be as long as
the leanest usual speech codec makes it.
"""

import math
from io import BytesIO

# Uncompressed stereo of 32 bits at 192 kHz; Opus at 6 kbit/s.
MOST_BYTES_PER_SECOND = 1_536_000
LEAST_BYTES_PER_SECOND = 750


def seconds(sound: bytes) -> int:
    from tinytag import TinyTag, TinyTagException

    least = len(sound) / MOST_BYTES_PER_SECOND
    try:
        told = TinyTag.get(filename=None, file_obj=BytesIO(sound), tags=False).duration
    except (TinyTagException, ValueError, OverflowError, OSError, KeyError, IndexError):
        told = None
    if told is None or not 0 < told < 1e6:
        told = len(sound) / LEAST_BYTES_PER_SECOND
    return max(1, math.ceil(max(told, least)))
