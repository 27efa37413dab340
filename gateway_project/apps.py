from django.apps import AppConfig


class GatewayProjectConfig(AppConfig):
    """Installed for its management commands (`up`, `demo`, …); it owns no models."""

    name = "gateway_project"
