"""Below `/o/<org>/security/`: single sign-on and domains."""

from django.urls import path

from orgs import domain_views, sso_views

app_name = "sso_console"
urlpatterns = [
    path("sso/", sso_views.connections, name="connections"),
    path("sso/new/", sso_views.new, name="new"),
    path("sso/<int:connection_id>/", sso_views.connection, name="connection"),
    path("sso/<int:connection_id>/provider/", sso_views.configure, name="configure"),
    path("sso/<int:connection_id>/use/", sso_views.use, name="use"),
    path("sso/<int:connection_id>/test/", sso_views.test, name="test"),
    path("sso/<int:connection_id>/try/", sso_views.trial, name="trial"),
    path("sso/<int:connection_id>/on/", sso_views.enable, name="enable"),
    path("sso/<int:connection_id>/off/", sso_views.disable, name="disable"),
    path("sso/<int:connection_id>/people/", sso_views.people, name="people"),
    path("sso/<int:connection_id>/people/<int:identity_id>/disconnect/", sso_views.disconnect, name="disconnect"),
    path("sso/<int:connection_id>/delete/", sso_views.delete, name="delete"),
    path("domains/", domain_views.domains, name="domains"),
    path("domains/<int:domain_id>/check/", domain_views.check, name="check"),
    path("domains/<int:domain_id>/code/", domain_views.send_code, name="send_code"),
    path("domains/<int:domain_id>/prove/", domain_views.prove, name="prove"),
    path("domains/<int:domain_id>/require/", domain_views.require, name="require"),
    path("domains/<int:domain_id>/remove/", domain_views.remove, name="remove"),
]
