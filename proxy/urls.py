"""Routes that programs call. Served by the lean handler: no middleware, errors in the protocol's shape."""

from django.urls import path

from proxy import views

urlpatterns = [
    path("v1/chat/completions", views.ChatCompletions.as_view()),
    path("v1/models", views.Models.as_view()),
    path("v1/models/<path:name>", views.Models.as_view()),
    path("v1/key", views.Key.as_view()),
]
