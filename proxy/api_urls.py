"""Below `/api/v1/`: what scripts ask the console's side."""

from django.urls import path

from proxy import explain_api, simulation_api

ORG = "organizations/<slug:org>"
ONE = f"{ORG}/simulations/<int:simulation_id>"

app_name = "api"
urlpatterns = [
    path("explain", explain_api.Explain.as_view(), name="explain"),
    path(f"{ORG}/simulations", simulation_api.Simulations.as_view(), name="simulations"),
    path(ONE, simulation_api.OneSimulation.as_view(), name="simulation"),
    path(f"{ONE}/cancel", simulation_api.CancelledSimulation.as_view(), name="cancel_simulation"),
    path(f"{ONE}/run-again", simulation_api.RepeatedSimulation.as_view(), name="repeat_simulation"),
]
