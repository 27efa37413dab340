"""Below `/api/v1/`."""

from django.urls import path

from guardrails import api

ORG = "organizations/<slug:org>"

app_name = "guardrails_api"
urlpatterns = [
    path(f"{ORG}/policies", api.Policies.as_view(), name="policies"),
    path(f"{ORG}/policies/<int:policy_id>", api.OnePolicy.as_view(), name="policy"),
    path(f"{ORG}/bindings", api.Bindings.as_view(), name="bindings"),
    path(f"{ORG}/bindings/<int:binding_id>", api.OneBinding.as_view(), name="binding"),
]
