"""Pages below /accounts/ that are ours in place of allauth's: they stand before its own in the URLconf, by the same names."""

from django.urls import path

from orgs import account_views, sign_in_views

urlpatterns = [
    path("login/", sign_in_views.sign_in, name="account_login"),
    path("sessions/", account_views.sessions, name="usersessions_list"),
    path("email/", account_views.addresses, name="account_email"),
    path("2fa/recovery-codes/", account_views.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("2fa/recovery-codes/download/", account_views.download_recovery_codes, name="mfa_download_recovery_codes"),
]
