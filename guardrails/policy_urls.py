"""Below `/o/<slug:org>/guardrails/`."""

from django.urls import path

from guardrails import binding_views, policy_views

app_name = "policies"
urlpatterns = [
    path("", policy_views.policies, name="policies"),
    path("mine/", policy_views.own, name="mine"),
    path("new/", policy_views.new_policy, name="new"),
    path("limit-row/", policy_views.limit_row, name="limit_row"),
    path("<int:policy_id>/", policy_views.policy, name="policy"),
    path("<int:policy_id>/oddities/", policy_views.oddities, name="oddities"),
    path("<int:policy_id>/history/", policy_views.history, name="history"),
    path("<int:policy_id>/edit/", policy_views.edit, name="edit"),
    path("<int:policy_id>/copy/", policy_views.copy, name="copy"),
    path("<int:policy_id>/delete/", policy_views.delete, name="delete"),
    path("<int:policy_id>/bind/", binding_views.bind, name="bind"),
    path("<int:policy_id>/subjects/", binding_views.subjects, name="subjects"),
    path("<int:policy_id>/except/", binding_views.override, name="override"),
    path("<int:policy_id>/reset/", binding_views.reset, name="reset"),
    path("bindings/<int:binding_id>/unbind/", binding_views.unbind, name="unbind"),
    path("exceptions/<int:override_id>/end/", binding_views.end, name="end"),
    path("exceptions/<int:override_id>/resume/", binding_views.resume, name="resume"),
]
