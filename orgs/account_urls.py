from django.urls import path

from orgs import account_views

app_name = "account"
urlpatterns = [
    path("", account_views.account, name="profile"),
    path("sessions/<int:session_id>/end/", account_views.end_one, name="end_session"),
    path("sessions/end-others/", account_views.end_others, name="end_other_sessions"),
]
