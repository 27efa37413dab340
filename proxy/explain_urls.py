"""Below `/o/<slug:org>/guardrails/explain/`."""

from django.urls import path

from proxy import explain_views

app_name = "explain"
urlpatterns = [path("", explain_views.explain, name="page")]
