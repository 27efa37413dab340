#!/usr/bin/env python
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    if sys.argv[1:] == ["up"]:
        # The supervisor needs no Django, and the first second of a start counts.
        from gateway_project.embedded import up

        up.main()
    from gateway_project.lib import garbage

    garbage.search_seldom()
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # a setting that is missing or wrong: its name says more than where it was read
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
