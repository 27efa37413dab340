"""Below `/o/<slug:org>/routing/`."""

from django.urls import path

from proxy import route_views, routing_views

app_name = "routing"
urlpatterns = [
    path("", routing_views.page, name="page"),
    path("deployments/", routing_views.health, name="health"),
    path("which/", route_views.which, name="which"),
    path("aliases/new/", routing_views.new_alias, name="new_alias"),
    path("aliases/<int:alias_id>/edit/", routing_views.edit_alias, name="edit_alias"),
    path("aliases/<int:alias_id>/delete/", routing_views.delete_alias, name="delete_alias"),
    path("auto/add/", routing_views.add_candidate, name="add_candidate"),
    path("auto/remove/", routing_views.remove_candidate, name="remove_candidate"),
    path("auto/move/", routing_views.move_candidate, name="move_candidate"),
    path("baseline/", routing_views.set_baseline, name="set_baseline"),
]
