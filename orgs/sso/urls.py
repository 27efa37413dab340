from django.urls import path

from orgs.sso import views

app_name = "sso"
urlpatterns = [
    path("<slug:slug>/", views.start, name="start"),
    path("<slug:slug>/callback/", views.callback, name="callback"),
    path("<slug:slug>/acs/", views.acs, name="acs"),
    path("<slug:slug>/finish/", views.finish, name="finish"),
    path("<slug:slug>/metadata/", views.metadata, name="metadata"),
]
