"""The clients of the campaign: how each is started, and what its environment says.

Each gets nothing of the environment that it runs in but PATH, a home of its own, and a proxy that nothing listens to for
whatever is not on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests import node

HERE = Path(__file__).resolve().parent
SCRIPTS, MODULES, PYTHON = HERE / "programs", HERE / "node_modules", HERE / ".venv" / "bin" / "python"
SECRET = "heliotrope"
PROMPT = "Read the file notes.txt in the folder {folder}. What does it say?"


@dataclass(frozen=True)
class Setting:
    """Where a client is let loose: its folder (which is its home too), the gateway, a key, a model."""

    folder: Path
    url: str
    key: str
    model: str

    @property
    def prompt(self) -> str:
        return PROMPT.format(folder=self.folder)


@dataclass(frozen=True)
class Client:
    name: str
    protocol: str
    argv: Callable[[Setting], list[str]]
    variables: Callable[[Setting], dict[str, str]] = field(default=lambda _: {})
    # What has to stand in its output.
    says: str = ""
    # Its outcome is how many of its tests passed.
    suite: bool = False

    def environment(self, setting: Setting) -> dict[str, str]:
        return {
            "PATH": f"{node.NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(setting.folder),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
            "GATEWAY": setting.url,
            "KEY": setting.key,
            "MODEL": setting.model,
            "PROTOCOL": self.protocol,
            **self.variables(setting),
        }


def python(script: str) -> Callable[[Setting], list[str]]:
    return lambda _: [str(PYTHON), str(SCRIPTS / script)]


def javascript(script: str) -> Callable[[Setting], list[str]]:
    return lambda _: [str(node.NODE), str(SCRIPTS / script)]


def standard_tests(_: Setting) -> list[str]:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:codspeed", "--tb=line", "-rfE", "-W", "ignore", "-c", "/dev/null"]
    options += ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session"]  # the clients keep their connections
    options += ["--noconftest", "--rootdir", str(SCRIPTS)]  # not those of the tests above it
    return [str(PYTHON), "-m", "pytest", *options, str(SCRIPTS / "standard_tests.py")]


def claude_code(setting: Setting) -> list[str]:
    program = MODULES / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"
    return [str(node.NODE), str(program), "-p", setting.prompt, "--model", setting.model, "--allowedTools", "Read"]


def claude_variables(setting: Setting) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": setting.url,
        "ANTHROPIC_AUTH_TOKEN": setting.key,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": setting.model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def codex(setting: Setting) -> list[str]:
    provider = f'{{name="Gatehouse",base_url="{setting.url}/v1",env_key="KEY",wire_api="responses",request_max_retries=0}}'
    chosen = ["-c", 'model_provider="gatehouse"', "-c", f"model_providers.gatehouse={provider}", "-m", setting.model]
    # Its own sandbox needs rights that a container may not have; the only command that it is told to run is `cat notes.txt`.
    free = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    # OpenAI's own search, which only OpenAI can run, is on by default.
    chosen += ["-c", 'web_search="disabled"']
    program = MODULES / "@openai" / "codex" / "bin" / "codex.js"
    return [str(node.NODE), str(program), "exec", *free, *chosen, setting.prompt]


CLIENTS = (
    Client("openai (Python)", "chat", python("openai_sdk.py")),
    Client("openai (Python)", "responses", python("openai_sdk.py")),
    Client("anthropic (Python)", "messages", python("anthropic_sdk.py")),
    Client("openai (Node)", "chat", javascript("openai_sdk.mjs")),
    Client("openai (Node)", "responses", javascript("openai_sdk.mjs")),
    Client("@anthropic-ai/sdk (Node)", "messages", javascript("anthropic_sdk.mjs")),
    Client("Vercel AI SDK", "chat", javascript("vercel.mjs")),
    Client("Vercel AI SDK", "responses", javascript("vercel.mjs")),
    Client("Vercel AI SDK", "messages", javascript("vercel.mjs")),
    Client("Codex CLI", "responses", codex, says=SECRET),
    Client("Claude Code", "messages", claude_code, claude_variables, says=SECRET),
    Client("langchain-openai, standard tests", "chat", standard_tests, suite=True),
    Client("langchain-openai, standard tests", "responses", standard_tests, suite=True),
    Client("langchain-anthropic, standard tests", "messages", standard_tests, suite=True),
)
