"""Of the area `platform` (gateway_project/platform_urls.py)."""

from django.urls import path

from billing import operator_views as views

urlpatterns = [
    path("prices/", views.prices, name="prices"),
    path("prices/difference/", views.difference, name="price_difference"),
    path("prices/apply/", views.apply, name="apply_prices"),
    path("organizations/<int:organization_id>/credit/", views.credit, name="credit"),
]
