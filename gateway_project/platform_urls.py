"""The operator's area: every app that owns something an operator looks at brings its own pages."""

from django.urls import include, path

app_name = "platform"
urlpatterns = [
    path("", include("orgs.operator_urls")),
    path("", include("analytics.operator_urls")),
]
