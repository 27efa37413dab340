"""Every refusal and failure a caller can branch on: one class, one status and one stable `code` per leaf.

    ProxyError
    ├── BadRequest 400 invalid_request
    │   ├── RequestTooLarge 413 request_too_large
    │   ├── PreviousResponseNotFound 400 previous_response_not_found
    │   ├── IdempotencyConflict 409 idempotency_conflict
    │   ├── AlreadyCompleted 409 already_completed
    │   └── CallInProgress 409 call_in_progress  with retry-after
    ├── KeyRefused 401
    │   ├── InvalidApiKey invalid_api_key        ├── KeyRevoked key_revoked
    │   ├── KeyExpired key_expired               ├── KeyDisabled key_disabled
    │   └── AccountFrozen account_frozen
    ├── PermissionRefused 403                     never retried by an SDK: x-should-retry: false
    │   ├── AttributionRequired attribution_required
    │   ├── ModelNotAllowed model_not_allowed    ├── ProviderNotAllowed provider_not_allowed
    │   ├── IpNotAllowed ip_not_allowed          ├── MemberNotAllowed member_not_allowed
    │   ├── ModelNotApproved model_not_approved  ├── NotInPlan not_in_plan
    │   ├── ZdrUnavailable zdr_unavailable       ├── MaxTokensExceeded max_tokens_exceeded
    │   └── ModelUnpriced model_unpriced
    ├── MoneyRefused                              the same
    │   ├── BudgetExceeded 403 budget_exceeded
    │   └── InsufficientCredits 402 insufficient_credits
    ├── RateRefused 429                           with retry-after
    │   ├── RateLimitExceeded rate_limit_exceeded
    │   ├── TokenRateLimitExceeded token_rate_limit_exceeded
    │   └── ConcurrencyLimitExceeded concurrency_limit_exceeded
    ├── HoldUsedUp 200 hold_used_up               never sent: a stream ends with the finish reason `length`
    ├── NotFound
    │   ├── UnknownUrl 404 unknown_url           ├── MethodNotAllowed 405 method_not_allowed
    │   ├── ModelNotFound 404 model_not_found    ├── VideoNotFound 404 video_not_found
    │   └── ResponseNotFound 404 response_not_found
    └── ServerFailed
        ├── ProviderFailed 502 provider_error    ├── ProviderTimeout 504 provider_timeout
        ├── ProviderOverloaded 503 provider_overloaded
        ├── GuardrailsUnavailable 503 guardrails_unavailable
        ├── GatewayStopping 503 gateway_stopping  with retry-after
        └── InternalError 500 internal_error

`type` follows OpenAI's vocabulary. How an error looks on the wire is the protocol's business
(`protocols/*.render_error`); its headers, which all protocols share, are made here. `AttemptFailed`
is what one try at one deployment raises: the pipeline falls back on it, or turns the last one into
a `ProxyError` with `as_proxy_error`.
"""

import math
from typing import ClassVar, Literal

# The code of a prompt that is longer than a model's window, as OpenAI says it.
TOO_LONG = "context_length_exceeded"


class ProxyError(Exception):
    """What a caller is told. `detail` (level, node, limit, spent, held, needed, resets_at, ask) goes into `error.gatehouse`."""

    status: ClassVar[int] = 500
    code: str = ""
    type: ClassVar[str] = "invalid_request_error"
    sentence: ClassVar[str] = "The request failed."
    should_retry: bool | None = None
    # Seconds to wait where nothing says how long; None: no `retry-after` is sent.
    patience: ClassVar[float | None] = None
    # The id of the call it ended, where there was one.
    request_id: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        detail: dict[str, object] | None = None,
    ) -> None:
        """`retry_after` in seconds. `code` replaces the leaf's own, for a provider's code worth keeping."""
        self.message = message or self.sentence
        super().__init__(self.message)
        self.param = param
        self.code = code or type(self).code
        self.retry_after = type(self).patience if retry_after is None else retry_after
        self.should_retry = type(self).should_retry if should_retry is None else should_retry
        self.detail = detail


class BadRequest(ProxyError):
    status, code = 400, "invalid_request"
    sentence = "The request is not valid."


class RequestTooLarge(BadRequest):
    status, code = 413, "request_too_large"
    sentence = "The request body is too large."


class PreviousResponseNotFound(BadRequest):
    code = "previous_response_not_found"
    sentence = "The response that this call goes on from is not kept here."


class IdempotencyConflict(BadRequest):
    status, code, should_retry = 409, "idempotency_conflict", False
    sentence = "Another request with this idempotency key differs from this one."


class AlreadyCompleted(BadRequest):
    """The call that this idempotency key stands for is over, and its answer was not kept."""

    status, code, should_retry = 409, "already_completed", False
    sentence = "The call with this idempotency key has been answered already."


class CallInProgress(BadRequest):
    """Another call with this idempotency key runs still. SDKs try a 409 again, and then wait again."""

    status, code, patience = 409, "call_in_progress", 1
    sentence = "The call with this idempotency key has not ended yet."


class KeyRefused(ProxyError):
    status = 401


class InvalidApiKey(KeyRefused):
    code = "invalid_api_key"
    sentence = "No valid API key was given. Send it as `Authorization: Bearer gh_sk_…`."


class KeyRevoked(KeyRefused):
    code = "key_revoked"
    sentence = "This API key has been revoked."


class KeyExpired(KeyRefused):
    code = "key_expired"
    sentence = "This API key has expired."


class KeyDisabled(KeyRefused):
    code = "key_disabled"
    sentence = "This API key is disabled."


class AccountFrozen(KeyRefused):
    code = "account_frozen"
    sentence = "The account this API key belongs to is frozen."


class PermissionRefused(ProxyError):
    status, type, should_retry = 403, "permission_error", False


class AttributionRequired(PermissionRefused):
    code = "attribution_required"
    sentence = "This organisation takes only calls that name their application, feature and environment."


class ModelNotAllowed(PermissionRefused):
    code = "model_not_allowed"
    sentence = "This API key may not use this model."


class ProviderNotAllowed(PermissionRefused):
    code = "provider_not_allowed"
    sentence = "No provider that this API key may use serves this model."


class IpNotAllowed(PermissionRefused):
    code = "ip_not_allowed"
    sentence = "This API key may not be used from this address."


class MemberNotAllowed(PermissionRefused):
    code = "member_not_allowed"
    sentence = "A policy on the path of this API key does not name its member."


class ModelNotApproved(PermissionRefused):
    code = "model_not_approved"
    sentence = "The organisation has not approved this model yet."


class NotInPlan(PermissionRefused):
    code = "not_in_plan"
    sentence = "The organisation's plan does not include this."


class ZdrUnavailable(PermissionRefused):
    code = "zdr_unavailable"
    sentence = "No deployment of this model promises zero data retention."


class MaxTokensExceeded(PermissionRefused):
    code = "max_tokens_exceeded"
    sentence = "The request asks for more tokens than the policy allows."


class ModelUnpriced(PermissionRefused):
    code = "model_unpriced"
    sentence = "This model has no price, and a budget applies to this API key."


class MoneyRefused(ProxyError):
    type, should_retry = "insufficient_quota", False


class BudgetExceeded(MoneyRefused):
    status, code = 403, "budget_exceeded"
    sentence = "The call could exceed a budget."


class InsufficientCredits(MoneyRefused):
    status, code = 402, "insufficient_credits"
    sentence = "The organisation's credit does not cover this call."


class RateRefused(ProxyError):
    status, type = 429, "rate_limit_error"


class RateLimitExceeded(RateRefused):
    code = "rate_limit_exceeded"
    sentence = "Too many requests."


class TokenRateLimitExceeded(RateRefused):
    code = "token_rate_limit_exceeded"
    sentence = "Too many tokens."


class ConcurrencyLimitExceeded(RateRefused):
    code = "concurrency_limit_exceeded"
    sentence = "Too many calls at the same time."


class HoldUsedUp(ProxyError):
    """Not an error to the caller: its answer ends as if it had reached the maximum length."""

    status, code = 200, "hold_used_up"
    sentence = "The answer was longer than what was reserved for it."


class NotFound(ProxyError):
    status = 404


class UnknownUrl(NotFound):
    code = "unknown_url"
    sentence = "There is nothing at this address."


class MethodNotAllowed(NotFound):
    status, code = 405, "method_not_allowed"
    sentence = "This address does not take this method."

    def __init__(self, message: str = "", *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allow = allow


class ModelNotFound(NotFound):
    code = "model_not_found"
    sentence = "The model does not exist."


class ResponseNotFound(NotFound):
    code = "response_not_found"
    sentence = "This response is not kept here."


class VideoNotFound(NotFound):
    code = "video_not_found"
    sentence = "There is no such video, or it is not this key's to see."


class ServerFailed(ProxyError):
    type = "server_error"


class ProviderFailed(ServerFailed):
    status, code = 502, "provider_error"
    sentence = "The provider failed to answer."


class ProviderTimeout(ServerFailed):
    status, code = 504, "provider_timeout"
    sentence = "The provider did not answer in time."


class ProviderOverloaded(ServerFailed):
    status, code = 503, "provider_overloaded"
    sentence = "The provider is overloaded."


class GuardrailsUnavailable(ServerFailed):
    status, code, patience = 503, "guardrails_unavailable", 1
    sentence = "Limits cannot be checked at the moment, so no call is let through."


class GatewayStopping(ServerFailed):
    """This process ends before the answer does. `patience`: another takes the call at once, a restart takes about so long."""

    status, code, patience = 503, "gateway_stopping", 3
    sentence = "The gateway is being stopped or restarted, so the call was cut."


class InternalError(ServerFailed):
    status, code = 500, "internal_error"
    sentence = "Something went wrong inside the gateway."


def _leaves(tree: type[ProxyError]) -> list[type[ProxyError]]:
    below = [leaf for branch in tree.__subclasses__() for leaf in _leaves(branch)]
    return [tree, *below] if tree.code else below


CODES: dict[str, type[ProxyError]] = {leaf.code: leaf for leaf in _leaves(ProxyError)}


def headers(error: ProxyError, *, request_id: str) -> dict[str, str]:
    """The headers of an error answer, the same in every protocol. `retry-after` is whole seconds, rounded up."""
    result = {"content-type": "application/json", "x-request-id": request_id, "request-id": request_id}
    if error.retry_after is not None:
        result["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.should_retry is not None:
        result["x-should-retry"] = "true" if error.should_retry else "false"
    if isinstance(error, KeyRefused):
        result["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.allow:
        result["allow"] = ", ".join(error.allow)
    return result


Kind = Literal[
    "connect", "timeout", "overloaded", "rate_limited", "status", "broken", "bad_request", "auth", "untranslatable", "unmade_call"
]


class AttemptFailed(Exception):
    """One try at one deployment failed.

    `message` is short and holds no credential; it may quote the provider's own error sentence, which may
    quote the prompt, so it goes to the caller and nowhere else. `code` is the provider's, if it gave one.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether another deployment may succeed. A 404 may: the model's name at the provider is ours, not the caller's.

        So may what one provider's protocol cannot say (`untranslatable`): another's can, perhaps. And a model that meant to
        call a tool and could not (`unmade_call`): its caller's tools say nothing about the deployment.
        """
        return self.kind != "bad_request" or self.status == 404


def as_proxy_error(failure: AttemptFailed) -> ProxyError:
    """What the caller is told when this was the last try. A wrong provider key is ours: never the caller's 401."""
    if failure.kind in ("bad_request", "untranslatable"):
        return BadRequest(failure.message, code=failure.code, param=failure.param)
    if failure.kind in ("overloaded", "rate_limited"):
        return ProviderOverloaded(failure.message, retry_after=failure.retry_after)
    if failure.kind == "timeout":
        return ProviderTimeout(failure.message)
    return ProviderFailed(failure.message)
