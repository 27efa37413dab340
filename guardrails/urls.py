"""Below `/o/<slug:org>/keys/`."""

from django.urls import path

from guardrails import bulk_views, key_views, views

app_name = "guardrails"
urlpatterns = [
    path("", views.keys, name="keys"),
    path("new/", views.new_key, name="new_key"),
    path("new/attribution/", views.attribution, name="attribution"),
    path("several/", bulk_views.bulk, name="bulk"),
    path("<int:key_id>/", views.key, name="key"),
    path("<int:key_id>/limits/", views.limits, name="limits"),
    path("<int:key_id>/oddities/", views.oddities, name="oddities"),
    path("<int:key_id>/history/", views.history, name="history"),
    path("<int:key_id>/edit/", key_views.edit, name="edit"),
    path("<int:key_id>/rotate/", key_views.rotate, name="rotate"),
    path("<int:key_id>/rotate/end/", key_views.end_old, name="end_old"),
    path("<int:key_id>/disable/", key_views.disable, name="disable"),
    path("<int:key_id>/enable/", key_views.enable, name="enable"),
    path("<int:key_id>/delete/", key_views.delete, name="delete"),
]
