from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    name = "analytics"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from analytics.selectors import first_chat_model, model_uses, unused_since
        from guardrails import example_call
        from orgs import key_use
        from orgs.navigation import Entry, register
        from orgs.permissions import Permission
        from proxy import model_uses as uses

        # The catalogue stands above guardrails, whose page shows a snippet with a model in it.
        example_call.find_model_with(first_chat_model)
        key_use.find_unused_with(unused_since)
        uses.read_with(model_uses)
        register(Entry("Overview", "analytics:overview", "layout-dashboard", Permission.VIEW_OWN, position=10, shortcut="o"))
        register(Entry("Call log", "analytics:calls", "list-search", Permission.VIEW_OWN, position=20, shortcut="c"))
