"""One readable log for every process: structlog in front, the standard library's loggers behind it.

Guarantee: whatever looks like a secret (API keys, bearer tokens, provider keys) is replaced before
a line is written. Bodies of calls are never passed to a logger in the first place.
"""

import logging
import re
import sys
import traceback
from typing import Any

import structlog

# Of a word: `sk-…`, not `task-…`. In a rendered line a word may follow an escaped line end.
_BEGINNING = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
SECRET = re.compile(
    rf"(gh_sk_[A-Za-z0-9]+_|gh_sk_|{_BEGINNING}sk-|AIza)[A-Za-z0-9_\-.]{{8,}}"
    # Base64 as in RFC 6750; headers may come in small letters.
    r"|((?i:Bearer)\s+)[A-Za-z0-9_\-.~+/]{8,}=*"
    rf"|{_BEGINNING}(AKIA|ASIA)[A-Z0-9]{{16}}\b"
)


def redact(text: str) -> str:
    """`gh_sk_abc_SECRET…` → `gh_sk_abc_[redacted]`; the public part stays, to find the key by."""
    return SECRET.sub(r"\1\2\3[redacted]", text)


def redact_event(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


def redact_line(_: Any, __: str, line: Any) -> Any:
    """The finished line once more: fields inside fields and exceptions are text only now."""
    return redact(line)


def places(error: BaseException) -> str:
    """Where an exception was raised, outermost first, without its text: that may quote what a caller wrote."""
    return " > ".join(f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__))


def configure(*, level: str, as_json: bool) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    stream = logging.StreamHandler()
    stream.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last, redact_line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    for quiet in ("httpx", "httpcore", "uvicorn.access", "asyncio", "celery.app.trace", "celery.beat", "celery.worker.strategy"):
        logging.getLogger(quiet).setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    """An answer that breaks off is ended so that its reader notices; why stands in the line of the call."""
    return "returned without completing response" not in record.getMessage()
