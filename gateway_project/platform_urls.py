"""The operator's area: every app that owns something an operator looks at brings its own pages."""

from django.urls import include, path

from gateway_project import operator_views

app_name = "platform"
urlpatterns = [
    path("", include("orgs.operator_urls")),
    path("", include("analytics.operator_urls")),
    path("", include("proxy.operator_urls")),
    path("", include("billing.operator_urls")),
    path("system/", operator_views.system, name="system"),
]
