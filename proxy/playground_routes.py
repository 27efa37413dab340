"""The playground's calls as the lean handler serves them; `proxy.playground_urls` has the console's view of this path."""

from django.urls import path

from proxy import views

urlpatterns = [path("o/<slug:org>/playground/keys/<int:key_id>/call/", views.PlaygroundCalls.as_view())]
