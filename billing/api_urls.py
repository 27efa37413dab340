"""Below `/api/v1/`."""

from django.urls import path

from billing import api

ORG = "organizations/<slug:org>"

app_name = "billing_api"
urlpatterns = [
    path(f"{ORG}/credit", api.Credit.as_view(), name="credit"),
    path(f"{ORG}/credit/movements", api.Movements.as_view(), name="movements"),
]
