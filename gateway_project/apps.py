from django.apps import AppConfig


class GatewayProjectConfig(AppConfig):
    """Installed for its management commands (`up`, `demo`, …); it owns no models."""

    name = "gateway_project"

    def ready(self) -> None:
        from gateway_project.celery import app

        # Pages send tasks too, from any thread: without a default they would look for a broker of nobody's.
        app.set_default()
