from django.apps import AppConfig


class GuardrailsConfig(AppConfig):
    name = "guardrails"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from guardrails import counted, requests
        from orgs import checks
        from orgs.navigation import Entry, register
        from orgs.permissions import Permission

        register(Entry("API keys", "guardrails:keys", "key", Permission.VIEW_OWN, position=30))
        register(Entry("Requests", "requests:page", "inbox", Permission.VIEW_OWN, position=48, count=requests.count_waiting_for))
        register(Entry("Guardrails", "policies:policies", "shield-check", Permission.VIEW_OWN, position=40))
        checks.before_key(counted.refuse_surplus_key)
        checks.before_seat(counted.refuse_surplus_seat)
