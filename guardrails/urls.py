"""Below `/o/<slug:org>/keys/`."""

from django.urls import path

from guardrails import views

app_name = "guardrails"
urlpatterns = [
    path("", views.keys, name="keys"),
    path("new/", views.new_key, name="new_key"),
    path("new/attribution/", views.attribution, name="attribution"),
    path("<int:key_id>/", views.key, name="key"),
    path("<int:key_id>/limits/", views.limits, name="limits"),
    path("<int:key_id>/disable/", views.disable, name="disable"),
    path("<int:key_id>/enable/", views.enable, name="enable"),
    path("<int:key_id>/delete/", views.delete, name="delete"),
]
