from django.urls import path

from orgs import views

app_name = "orgs"
urlpatterns = [
    path("", views.home, name="home"),
    path("switch/<slug:org>/", views.switch, name="switch"),
    path("o/<slug:org>/settings/", views.settings, name="settings"),
]
