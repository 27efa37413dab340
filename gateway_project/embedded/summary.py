"""The last thing `manage.py up` prints: where to go, how to sign in, and a call that works as it stands."""

import json
import shlex
from typing import Any

MODEL = "sandbox-fast"


def lines(demo: dict[str, Any], *, url: str, home: str = "") -> list[str]:
    """From what `manage.py demo --json` gives: gateway_url, console_url, api_key, users [{email, password, role}]; or nothing.

    `home`: the state folder, where commands do not find it by themselves.
    """
    if not demo:
        return ["", f"Console   {url}/", ""]
    first = demo["users"][0]
    body = {"model": demo.get("model", MODEL), "messages": [{"role": "user", "content": "Hello!"}]}
    others = len(demo["users"]) - 1
    command = f"{f'GATEHOUSE_HOME={shlex.quote(home)} ' if home else ''}.venv/bin/python manage.py demo"
    return [
        "",
        f"Console   {demo['console_url']}",
        f"Sign in   {first['email']}   password {first['password']}   ({first['role']})",
        *([f"          {command}   shows {others} more, in every role"] if others else []),
        f"API key   {demo['api_key']}",
        "Try it    " + curl(demo["gateway_url"], key=demo["api_key"], body=body),
        "",
    ]


def curl(gateway_url: str, *, key: str, body: dict[str, Any]) -> str:
    parts = ["curl", f"{gateway_url.rstrip('/').removesuffix('/v1')}/v1/chat/completions", "-H", f"Authorization: Bearer {key}"]
    return shlex.join([*parts, "-H", "Content-Type: application/json", "-d", json.dumps(body)])
