"""Below `/o/<slug:org>/presets/`."""

from django.urls import path

from proxy import preset_views

app_name = "presets"
urlpatterns = [
    path("", preset_views.presets, name="list"),
    path("new/", preset_views.new, name="new"),
    path("<int:preset_id>/", preset_views.preset, name="preset"),
    path("<int:preset_id>/edit/", preset_views.edit, name="edit"),
    path("<int:preset_id>/archive/", preset_views.archive, name="archive"),
    path("<int:preset_id>/restore/", preset_views.restore, name="restore"),
]
