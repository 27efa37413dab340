"""Below `/o/<slug:org>/provider-keys/`."""

from django.urls import path

from proxy import provider_key_views as views

app_name = "provider_keys"
urlpatterns = [
    path("", views.provider_keys, name="list"),
    path("new/", views.new, name="new"),
    path("<int:provider_key_id>/edit/", views.edit, name="edit"),
    path("<int:provider_key_id>/test/", views.test, name="test"),
    path("<int:provider_key_id>/disable/", views.disable, name="disable"),
    path("<int:provider_key_id>/enable/", views.enable, name="enable"),
    path("<int:provider_key_id>/delete/", views.delete, name="delete"),
]
