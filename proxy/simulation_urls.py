"""Below `/o/<slug:org>/guardrails/simulations/`."""

from django.urls import path

from proxy import simulation_views as views

app_name = "simulations"
urlpatterns = [
    path("", views.simulations, name="list"),
    path("new/", views.new, name="new"),
    path("<int:simulation_id>/", views.simulation, name="one"),
    path("<int:simulation_id>/progress/", views.progress, name="progress"),
    path("<int:simulation_id>/cancel/", views.cancel, name="cancel"),
    path("<int:simulation_id>/again/", views.again, name="again"),
    path("<int:simulation_id>/delete/", views.delete, name="delete"),
]
