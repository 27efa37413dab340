"""Of the area `platform` (gateway_project/platform_urls.py)."""

from django.urls import path

from analytics import operator_views as views

urlpatterns = [path("", views.organizations, name="organizations")]
