import json
from typing import Any

import pytest
from django.http import Http404

from gateway_project.lib import lean
from proxy import errors
from proxy.answers import error_response


@pytest.mark.parametrize(
    ("exception", "status", "code"),
    [
        (errors.KeyRevoked(), 401, "key_revoked"),
        (errors.AttemptFailed("auth", "x", status=401), 502, "provider_error"),
        (lean.RouteNotFound("/v1/x"), 404, "unknown_url"),
        (Http404("x"), 404, "unknown_url"),
        (lean.MethodNotAllowed("PUT", allow=("GET",)), 405, "method_not_allowed"),
        (lean.BodyTooLarge(limit=10), 413, "request_too_large"),
        (lean.BadRequestLine("x"), 400, "invalid_request"),
        (RuntimeError("x"), 500, "internal_error"),
    ],
)
def test_every_exception_has_its_answer(exception: Exception, status: int, code: str) -> None:
    response = error_response("/v1/x", exception)
    error: Any = json.loads(response.content)["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert response["content-type"] == "application/json"
    assert response["x-request-id"] == response["request-id"] == error["gatehouse"]["request_id"]


def test_the_calls_own_id_is_kept() -> None:
    assert error_response("/v1/x", errors.ModelNotFound(), request_id="req_7")["x-request-id"] == "req_7"
    error = errors.ModelNotFound()
    error.request_id = "req_8"
    assert error_response("/v1/x", error)["x-request-id"] == "req_8"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert error_response("/v1/x", lean.MethodNotAllowed("PUT", allow=("GET", "HEAD")))["allow"] == "GET, HEAD"


def test_only_what_nobody_foresaw_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error_response("/v1/x", errors.BudgetExceeded())
    assert caplog.records == []
    error_response("/v1/x", RuntimeError("details for the operator"), request_id="req_9")
    assert "req_9" in caplog.text
    assert "RuntimeError" in caplog.text
    # An exception may quote a prompt: where it was raised is enough.
    assert "details for the operator" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/messages", "/v1/v1/messages", "//v1/messages/"])
def test_callers_of_messages_are_told_in_their_shape(path: str) -> None:
    told: Any = json.loads(error_response(path, lean.RouteNotFound(path)).content)
    assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
    assert told["error"]["details"] == {"error_code": "unknown_url"}


@pytest.mark.parametrize("path", ["/v1/messages_of_others", "/v1/chat/completions", "/v1/models"])
def test_everybody_else_is_told_in_the_usual_one(path: str) -> None:
    assert "type" not in json.loads(error_response(path, errors.ModelNotFound()).content)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/messages", "Did you mean /v1/messages? The base URL ends in /v1."),
        ("/v1/v1/messages", "Did you mean /v1/messages? The base URL does not end in /v1."),
        ("/v1/v1/chat/completions", "Did you mean /v1/chat/completions? The base URL ends in one /v1."),
        ("/v1/chat/completions/", "Did you mean /v1/chat/completions?"),
        ("/v1/messages/count_tokens/", "Did you mean /v1/messages/count_tokens?"),
        ("//v1//responses", "Did you mean /v1/responses?"),
        ("/audio/transcriptions", "Did you mean /v1/audio/transcriptions? The base URL ends in /v1."),
        ("/videos/video_1/content", "Did you mean /v1/videos/video_1/content? The base URL ends in /v1."),
        ("/v1/message", "There is nothing at /v1/message."),
    ],
)
def test_a_base_url_with_too_much_or_too_little_is_explained(path: str, hint: str) -> None:
    assert json.loads(error_response(path, lean.RouteNotFound(path)).content)["error"]["message"].endswith(hint)
