"""Pages below /accounts/ that are ours in place of allauth's: they stand before its own in the URLconf, by the same names."""

from django.urls import path

from orgs import sign_in_views

urlpatterns = [
    path("login/", sign_in_views.sign_in, name="account_login"),
]
