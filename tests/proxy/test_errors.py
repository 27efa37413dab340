import pytest

from proxy import errors
from proxy.errors import AttemptFailed, ProxyError


@pytest.mark.parametrize("code", sorted(errors.CODES))
def test_each_leaf_has_a_status_a_sentence_and_stands_in_the_drawing(code: str) -> None:
    leaf = errors.CODES[code]
    error = leaf()
    assert 400 <= error.status < 600 or error.code == "hold_used_up"
    assert error.message.endswith(".")
    assert error.code == code
    assert code in (errors.__doc__ or "")
    assert leaf.__name__ in (errors.__doc__ or "")


def test_codes_are_unique_and_complete() -> None:
    def leaves(tree: type[ProxyError]) -> set[type[ProxyError]]:
        return {tree}.union(*(leaves(below) for below in tree.__subclasses__()))

    assert set(errors.CODES.values()) == {leaf for leaf in leaves(ProxyError) if leaf.code}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("invalid_request", 400, "invalid_request_error"),
        ("invalid_api_key", 401, "invalid_request_error"),
        ("insufficient_credits", 402, "insufficient_quota"),
        ("budget_exceeded", 403, "insufficient_quota"),
        ("model_not_allowed", 403, "permission_error"),
        ("model_not_found", 404, "invalid_request_error"),
        ("rate_limit_exceeded", 429, "rate_limit_error"),
        ("provider_error", 502, "server_error"),
        ("guardrails_unavailable", 503, "server_error"),
    ],
)
def test_statuses_and_types_follow_openai(code: str, status: int, kind: str) -> None:
    assert (errors.CODES[code].status, errors.CODES[code].type) == (status, kind)


def test_the_request_id_stands_in_both_headers() -> None:
    headers = errors.headers(errors.BadRequest(), request_id="req_1")
    assert headers == {"content-type": "application/json", "x-request-id": "req_1", "request-id": "req_1"}


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (59.01, "60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    headers = errors.headers(errors.RateLimitExceeded(retry_after=seconds), request_id="r")
    assert headers["retry-after"] == header


@pytest.mark.parametrize("refusal", [errors.BudgetExceeded, errors.InsufficientCredits])
def test_sdks_are_told_not_to_retry_for_money(refusal: type[ProxyError]) -> None:
    assert errors.headers(refusal(), request_id="r")["x-should-retry"] == "false"


def test_should_retry_can_be_said_for_one_error() -> None:
    assert errors.headers(errors.ProviderFailed(should_retry=True), request_id="r")["x-should-retry"] == "true"
    assert "x-should-retry" not in errors.headers(errors.ProviderFailed(), request_id="r")


def test_a_refused_key_names_the_scheme_and_a_wrong_method_the_right_ones() -> None:
    assert errors.headers(errors.KeyExpired(), request_id="r")["www-authenticate"] == "Bearer"
    refused = errors.MethodNotAllowed(allow=("GET", "HEAD"))
    assert errors.headers(refused, request_id="r")["allow"] == "GET, HEAD"


def test_a_callers_mistake_keeps_the_providers_code_message_and_param() -> None:
    failure = AttemptFailed("bad_request", "Too long.", status=400, code="context_length_exceeded", param="messages")
    error = errors.as_proxy_error(failure)
    assert isinstance(error, errors.BadRequest)
    assert (error.status, error.code, error.message, error.param) == (400, "context_length_exceeded", "Too long.", "messages")


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("connect", None, 502),
        ("broken", None, 502),
        ("status", 500, 502),
        ("auth", 401, 502),
        ("auth", 403, 502),
        ("timeout", None, 504),
        ("overloaded", 529, 503),
        ("rate_limited", 429, 503),
        ("bad_request", 422, 400),
    ],
)
def test_the_last_failed_attempt_becomes_the_callers_error(kind: errors.Kind, status: int | None, expected: int) -> None:
    assert errors.as_proxy_error(AttemptFailed(kind, "x", status=status)).status == expected


def test_the_providers_wait_is_passed_on() -> None:
    error = errors.as_proxy_error(AttemptFailed("rate_limited", "x", status=429, retry_after=3.0))
    assert error.retry_after == 3.0


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        ("connect", None, True),
        ("status", 500, True),
        ("auth", 401, True),
        ("bad_request", 400, False),
        ("bad_request", 404, True),
    ],
)
def test_another_deployment_is_tried_unless_the_request_itself_is_wrong(
    kind: errors.Kind, status: int | None, retryable: bool
) -> None:
    assert AttemptFailed(kind, "x", status=status).retryable is retryable
