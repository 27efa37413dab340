"""Routes that programs call. Served by the lean handler: no middleware, errors in the protocol's shape."""

from django.urls import path

from proxy import video_views, views
from proxy.protocols import (
    chat_completions,
    embeddings,
    image_edits,
    images,
    messages,
    responses,
    speech,
    transcriptions,
    translations,
)

urlpatterns = [
    path("v1/chat/completions", views.Calls.as_view(codec=chat_completions)),
    path("v1/responses", views.Calls.as_view(codec=responses)),
    path("v1/responses/<str:response_id>", views.KeptResponse.as_view()),
    path("v1/embeddings", views.Calls.as_view(codec=embeddings)),
    path("v1/images/generations", views.Calls.as_view(codec=images)),
    path("v1/images/edits", views.Calls.as_view(codec=image_edits)),
    path("v1/audio/speech", views.Calls.as_view(codec=speech)),
    path("v1/audio/transcriptions", views.Calls.as_view(codec=transcriptions)),
    path("v1/audio/translations", views.Calls.as_view(codec=translations)),
    path("v1/messages", views.Calls.as_view(codec=messages)),
    path("v1/messages/count_tokens", views.CountTokens.as_view()),
    path("v1/videos", video_views.Videos.as_view()),
    path("v1/videos/<str:id>", video_views.Video.as_view()),
    path("v1/videos/<str:id>/content", video_views.Content.as_view()),
    path("v1/models", views.Models.as_view()),
    path("v1/models/<path:name>", views.Models.as_view()),
    path("v1/key", views.Key.as_view()),
]
