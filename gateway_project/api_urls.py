"""Below `/api/v1/`: what the API is."""

from django.urls import path

from gateway_project import api_document

app_name = "api_document"
urlpatterns = [
    path("openapi.json", api_document.openapi, name="openapi"),
    path("docs", api_document.page, name="page"),
]
