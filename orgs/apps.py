from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgs.navigation import TABS, Entry, register
        from orgs.permissions import Permission
        from orgs.sign_in_events import connect

        connect()
        register(
            Entry("Settings", "orgs:settings", "settings", Permission.MANAGE_SETTINGS, position=90, shortcut="s", everywhere=True)
        )
        register(Entry("Audit log", "audit:list", "history", Permission.VIEW_AUDIT, position=80, shortcut="a"))
        sso = Entry("Single sign-on", "sso_console:connections", "fingerprint", Permission.MANAGE_SETTINGS, 86, everywhere=True)
        register(sso)
        register(Entry("Domains", "sso_console:domains", "world", Permission.MANAGE_SETTINGS, position=87, everywhere=True))
        manages, people = Permission.MANAGE_MEMBERS, ("invitations:list", "roles:list")
        register(Entry("Groups & members", "members:list", "sitemap", manages, position=32, also=people, shortcut="u"))
        TABS[:] = [
            Entry("Members", "members:list", "users", manages, position=20),
            Entry("Invitations", "invitations:list", "mail", manages, position=25),
            Entry("Roles", "roles:list", "shield-check", manages, position=30),
        ]

        from orgs import checks
        from orgs.services.provisioning import refuse_deactivated

        register(
            Entry("Provisioning", "provisioning:page", "users-group", Permission.MANAGE_SETTINGS, position=89, everywhere=True)
        )
        checks.before_seat(refuse_deactivated)
