from django.apps import AppConfig


class GuardrailsConfig(AppConfig):
    name = "guardrails"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from guardrails import counted, moving
        from orgs import checks, consequences
        from orgs.navigation import Entry, Section, register
        from orgs.permissions import Permission

        register(Entry("API keys", "guardrails:keys", "key", Permission.VIEW_OWN, 30, Section.BUILD, shortcut="k"))
        badge, may_decide = "requests:waiting", Permission.MANAGE_GUARDRAILS
        register(
            Entry(
                "Requests",
                "requests:page",
                "inbox",
                Permission.VIEW_OWN,
                position=30,
                section=Section.GOVERN,
                shortcut="q",
                badge=badge,
                badge_permission=may_decide,
            )
        )
        register(Entry("Guardrails", "policies:policies", "shield-check", Permission.VIEW_OWN, 20, Section.GOVERN, shortcut="g"))
        consequences.of_moves(moving.changes_of_move)
        checks.before_move(moving.refuse_escape)
        checks.before_move(counted.refuse_surplus_move)
        checks.before_moved_keys(counted.refuse_surplus_moved_keys)
        checks.before_key(counted.refuse_surplus_key)
        checks.before_seat(counted.refuse_surplus_seat)
