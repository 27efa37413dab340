"""Below `/o/<slug:org>/`."""

from django.urls import path

from analytics import place_views, step_views, views

app_name = "analytics"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("find/", views.find, name="find"),
    path("first-steps/", step_views.steps, name="first_steps"),
    path("first-steps/close/", step_views.close, name="close_first_steps"),
    path("calls/", views.calls, name="calls"),
    path("calls/file/", views.calls_file, name="calls_file"),
    path("calls/<uuid:call_id>/", views.call, name="call"),
    path("usage/limits/", views.limits_near, name="limits_near"),
    path("usage/savings/", views.savings, name="savings"),
    path("usage/presets/", views.presets_use, name="presets_use"),
    path("usage/members/", views.members_use, name="members_use"),
    path("usage/groups/", place_views.groups_use, name="groups_use"),
    path("usage/applications/", place_views.applications_use, name="applications_use"),
    path("usage/applications/<int:application_id>/", place_views.application_use, name="application_use"),
    path("usage/keys/", views.keys_use, name="keys_use"),
    path("usage/keys/<int:key_id>/limits/", views.key_limits, name="key_limits"),
    path("usage/keys/<int:key_id>/usage/", views.key_usage, name="key_usage"),
    path("usage/keys/<int:key_id>/calls/", views.key_calls, name="key_calls"),
]
