"""Below `/o/<slug:org>/guardrails/requests/`."""

from django.urls import path

from guardrails import request_views

app_name = "requests"
urlpatterns = [
    path("", request_views.page, name="page"),
    path("waiting/", request_views.waiting, name="waiting"),
    path("new/", request_views.new, name="new"),
    path("approve/", request_views.approve_model, name="approve_model"),
    path("<int:request_id>/approve/", request_views.approve, name="approve"),
    path("<int:request_id>/decline/", request_views.decline, name="decline"),
    path("<int:request_id>/revoke/", request_views.revoke, name="revoke"),
    path("<int:request_id>/withdraw/", request_views.withdraw, name="withdraw"),
]
