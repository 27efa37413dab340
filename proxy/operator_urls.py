"""Of the area `platform` (gateway_project/platform_urls.py)."""

from django.urls import path

from proxy import operator_views as views

urlpatterns = [path("providers/", views.providers, name="providers")]
