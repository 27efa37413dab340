"""Of the area `platform`; the apps above add theirs (gateway_project/urls.py)."""

from django.urls import path

from orgs import operator_views as views

urlpatterns = [
    path("people/", views.list_people, name="people"),
    path("people/<int:user_id>/freeze/", views.freeze_person, name="freeze_person"),
    path("people/<int:user_id>/unfreeze/", views.unfreeze_person, name="unfreeze_person"),
    path("organizations/<int:organization_id>/freeze/", views.freeze_organization, name="freeze_organization"),
    path("organizations/<int:organization_id>/unfreeze/", views.unfreeze_organization, name="unfreeze_organization"),
]
