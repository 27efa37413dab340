"""The calls that ready snippets show. The catalogue of models stands above this app, so its owner says how to find one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from django.conf import settings

_finders: list[Callable[[], str]] = []

PLACEHOLDER = "gh_sk_…"


class Snippet(NamedTuple):
    """`name` is "curl", "python" or "ts"."""

    name: str
    language: str
    code: str


class Example(NamedTuple):
    """A call of one kind of model: its path, its body besides the model, and what the two SDKs make of it.

    `fields`: name, value in Python, value in TypeScript; `result` is what to print of `answer`.
    """

    path: str
    body: dict[str, object]
    call: str
    fields: tuple[tuple[str, str, str], ...]
    result: str


EXAMPLES = {
    "chat": Example(
        "/chat/completions",
        {"messages": [{"role": "user", "content": "Hello"}]},
        "chat.completions.create",
        (("messages", '[{"role": "user", "content": "Hello"}]', '[{ role: "user", content: "Hello" }]'),),
        "answer.choices[0].message.content",
    ),
    "embedding": Example(
        "/embeddings", {"input": "Hello"}, "embeddings.create", (("input", '"Hello"', '"Hello"'),), "answer.data[0].embedding"
    ),
    "image": Example(
        "/images/generations",
        {"prompt": "A lighthouse at dusk"},
        "images.generate",
        (("prompt", '"A lighthouse at dusk"', '"A lighthouse at dusk"'),),
        "answer.data[0].b64_json",
    ),
}


def find_model_with(finder: Callable[[], str]) -> None:
    """`finder` returns the name of a chat model that is offered, empty if there is none."""
    _finders[:] = [finder]


def model() -> str:
    """A name that the gateway answers to; where nothing is offered yet, a word that says so."""
    return next((name for finder in _finders if (name := finder())), "MODEL")


def base_url() -> str:
    return f"{settings.PUBLIC_URL}/v1"


def snippets(name: str = "", *, kind: str = "chat", key: str = PLACEHOLDER) -> list[Snippet]:
    """A call of the model in three languages; of one that chats if none is named. Empty for kinds that none is known of."""
    name = name or model()
    if kind == "speech":
        return _speech(name, key)
    if kind == "transcription":
        return _transcription(name, key)
    if kind == "video":
        return [Snippet("curl", "curl", _curl("/videos", {"model": name, "prompt": "A lighthouse at dusk"}, key))]
    example = EXAMPLES.get(kind)
    return _of(example, name, key) if example else []


def _of(example: Example, name: str, key: str) -> list[Snippet]:
    fields = (("model", f'"{name}"', f'"{name}"'), *example.fields)
    python = "".join(f"    {field}={value},\n" for field, value, _ in fields)
    script = "".join(f"  {field}: {value},\n" for field, _, value in fields)
    return [
        Snippet("curl", "curl", _curl(example.path, {"model": name, **example.body}, key)),
        Snippet("python", "Python", f"{_client(key)}answer = client.{example.call}(\n{python})\nprint({example.result})"),
        Snippet(
            "ts",
            "TypeScript",
            f"{_import(key)}const answer = await client.{example.call}({{\n{script}}});\nconsole.log({example.result});",
        ),
    ]


def _speech(name: str, key: str) -> list[Snippet]:
    body = {"model": name, "voice": "alloy", "input": "Hello"}
    python = (
        f'answer = client.audio.speech.create(model="{name}", voice="alloy", input="Hello")\nanswer.write_to_file("hello.mp3")'
    )
    script = f'const answer = await client.audio.speech.create({{ model: "{name}", voice: "alloy", input: "Hello" }});\n'
    script += 'await writeFile("hello.mp3", Buffer.from(await answer.arrayBuffer()));'
    return [
        Snippet("curl", "curl", f"{_curl('/audio/speech', body, key)} \\\n  --output hello.mp3"),
        Snippet("python", "Python", _client(key) + python),
        Snippet("ts", "TypeScript", 'import { writeFile } from "node:fs/promises";\n' + _import(key) + script),
    ]


def _transcription(name: str, key: str) -> list[Snippet]:
    address = f"{base_url()}/audio/transcriptions"
    curl = f'curl {address} \\\n  -H "Authorization: Bearer {key}" \\\n  -F model={name} -F file=@hello.mp3'
    python = f'answer = client.audio.transcriptions.create(model="{name}", file=open("hello.mp3", "rb"))\nprint(answer.text)'
    script = (
        f'const answer = await client.audio.transcriptions.create({{ model: "{name}", file: createReadStream("hello.mp3") }});\n'
    )
    return [
        Snippet("curl", "curl", curl),
        Snippet("python", "Python", _client(key) + python),
        Snippet(
            "ts", "TypeScript", f'import {{ createReadStream }} from "node:fs";\n{_import(key)}{script}console.log(answer.text);'
        ),
    ]


def _curl(path: str, body: Mapping[str, object], key: str) -> str:
    lines = [f"curl {base_url()}{path}", f'  -H "Authorization: Bearer {key}"', '  -H "Content-Type: application/json"']
    return " \\\n".join([*lines, f"  -d '{json.dumps(body)}'"])


def _client(key: str) -> str:
    return f'from openai import OpenAI\n\nclient = OpenAI(base_url="{base_url()}", api_key="{key}")\n'


def _import(key: str) -> str:
    return f'import OpenAI from "openai";\n\nconst client = new OpenAI({{ baseURL: "{base_url()}", apiKey: "{key}" }});\n'
