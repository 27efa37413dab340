"""Below `/api/v1/`."""

from django.urls import path

from guardrails.api import bindings, keys, overrides, policies, requests

ORG = "organizations/<slug:org>"

app_name = "guardrails_api"
urlpatterns = [
    path(f"{ORG}/keys", keys.Keys.as_view(), name="keys"),
    path(f"{ORG}/keys/change", keys.ChangedKeys.as_view(), name="change_keys"),
    path(f"{ORG}/keys/<int:key_id>", keys.OneKey.as_view(), name="key"),
    path(f"{ORG}/keys/<int:key_id>/disable", keys.DisabledKey.as_view(), name="disable_key"),
    path(f"{ORG}/keys/<int:key_id>/enable", keys.EnabledKey.as_view(), name="enable_key"),
    path(f"{ORG}/keys/<int:key_id>/rotate", keys.RotatedKey.as_view(), name="rotate_key"),
    path(f"{ORG}/keys/<int:key_id>/end-old-text", keys.EndedOldText.as_view(), name="end_old_text"),
    path(f"{ORG}/policies", policies.Policies.as_view(), name="policies"),
    path(f"{ORG}/policies/<int:policy_id>", policies.OnePolicy.as_view(), name="policy"),
    path(f"{ORG}/bindings", bindings.Bindings.as_view(), name="bindings"),
    path(f"{ORG}/bindings/<int:binding_id>", bindings.OneBinding.as_view(), name="binding"),
    path(f"{ORG}/overrides", overrides.Overrides.as_view(), name="overrides"),
    path(f"{ORG}/overrides/reset", overrides.Resets.as_view(), name="reset"),
    path(f"{ORG}/overrides/<int:override_id>", overrides.OneOverride.as_view(), name="override"),
    path(f"{ORG}/overrides/<int:override_id>/end", overrides.EndedOverride.as_view(), name="end_override"),
    path(f"{ORG}/overrides/<int:override_id>/resume", overrides.ResumedOverride.as_view(), name="resume_override"),
    path(f"{ORG}/requests", requests.Requests.as_view(), name="requests"),
    path(f"{ORG}/requests/approvals", requests.Approvals.as_view(), name="approvals"),
    path(f"{ORG}/requests/<int:request_id>", requests.OneRequest.as_view(), name="request"),
    path(f"{ORG}/requests/<int:request_id>/approve", requests.ApprovedRequest.as_view(), name="approve_request"),
    path(f"{ORG}/requests/<int:request_id>/decline", requests.DeclinedRequest.as_view(), name="decline_request"),
    path(f"{ORG}/requests/<int:request_id>/withdraw", requests.WithdrawnRequest.as_view(), name="withdraw_request"),
    path(f"{ORG}/requests/<int:request_id>/revoke", requests.RevokedRequest.as_view(), name="revoke_request"),
]
