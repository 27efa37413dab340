"""Below `/api/v1/`."""

from django.urls import path

from analytics import api

ORG = "organizations/<slug:org>"

app_name = "analytics_api"
urlpatterns = [
    path(f"{ORG}/usage", api.Usage.as_view(), name="usage"),
    path(f"{ORG}/ledger", api.Ledger.as_view(), name="ledger"),
    path(f"{ORG}/ledger/<uuid:call_id>", api.OneCall.as_view(), name="call"),
]
