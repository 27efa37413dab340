"""For test_settings.py. `python -m tests.gateway_project.settings_told NAME …` prints settings as Python would write them."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    sys.modules.pop("gateway_project.settings", None)  # forked, it has those of the process that was forked
    settings = importlib.import_module("gateway_project.settings")
    print(json.dumps({name: repr(getattr(settings, name)) for name in sys.argv[1:]}))  # noqa: T201


if __name__ == "__main__":
    main()
