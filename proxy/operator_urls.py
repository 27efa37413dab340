"""Of the area `platform` (gateway_project/platform_urls.py)."""

from django.urls import path

from proxy import operator_views as views

urlpatterns = [
    path("providers/", views.providers, name="providers"),
    path("providers/new/", views.add_provider, name="add_provider"),
    path("providers/catalogue/", views.catalogue_file, name="catalogue_file"),
]
