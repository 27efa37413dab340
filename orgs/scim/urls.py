"""Below `/scim/v2/`. Without a slash at the end, as every directory asks."""

from django.urls import path

from orgs.scim import views

app_name = "scim"
urlpatterns = [
    path("ServiceProviderConfig", views.config, name="config"),
    path("ResourceTypes", views.resource_types, name="resource_types"),
    path("ResourceTypes/<str:name>", views.resource_types, name="resource_type"),
    path("Schemas", views.schemas, name="schemas"),
    path("Schemas/<str:name>", views.schemas, name="schema"),
    path("Users", views.users, name="users"),
    path("Users/.search", views.search_users, name="search_users"),
    path("Users/<str:resource_id>", views.user, name="user"),
    path("Groups", views.groups, name="groups"),
    path("Groups/.search", views.search_groups, name="search_groups"),
    path("Groups/<str:resource_id>", views.group, name="group"),
    path("<path:path>", views.absent, name="absent"),
]
