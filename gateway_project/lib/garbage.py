"""Python's search for garbage goes through all that a process has loaded: hundreds of thousands of objects, all of which stay."""

import atexit
import gc

# Objects that are new and still there; Python's own 700 suits short scripts.
THRESHOLD = (20_000, 20, 50)


def search_seldom() -> None:
    """From the beginning of a program on: loading code leaves next to no garbage, and looking for it took a tenth of the time.

    At its end what is loaded is left to the system: taking it apart took a fifth of a command, and a second of a worker's end.
    """
    gc.set_threshold(*THRESHOLD)
    atexit.register(gc.freeze)


def leave_what_is_loaded() -> None:
    """Once all code is there: it is not searched any more, and processes that are forked go on sharing its memory."""
    gc.collect()
    gc.freeze()
