from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from gateway_project.lib import lifespan
        from proxy import startup

        lifespan.on_startup(startup.ensure)
