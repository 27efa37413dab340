"""Below `/o/<slug:org>/playground/`."""

from django.urls import path

from proxy import playground_views

app_name = "playground"
urlpatterns = [
    path("", playground_views.page, name="page"),
    path("keys/<int:key_id>/call/", playground_views.call, name="call"),
    path("calls/<uuid:call_id>/", playground_views.outcome, name="outcome"),
]
