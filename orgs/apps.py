from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgs.navigation import TABS, Entry, register
        from orgs.permissions import Permission
        from orgs.sign_in_events import connect
        from orgs.tree import SEES_APPLICATIONS, SEES_GROUPS

        connect()
        register(
            Entry("Settings", "orgs:settings", "settings", Permission.MANAGE_SETTINGS, position=90, shortcut="s", everywhere=True)
        )
        register(Entry("Audit log", "audit:list", "history", Permission.VIEW_AUDIT, position=80, shortcut="a"))
        sso = Entry(
            "Single sign-on",
            "sso_console:connections",
            "fingerprint",
            Permission.MANAGE_SETTINGS,
            86,
            everywhere=True,
            shortcut="l",
        )
        register(sso)
        register(
            Entry(
                "Domains", "sso_console:domains", "world", Permission.MANAGE_SETTINGS, position=87, everywhere=True, shortcut="d"
            )
        )
        sees, manages = Permission.VIEW_USAGE, Permission.MANAGE_MEMBERS
        of_groups, grants, of_applications = SEES_GROUPS[1:], (Permission.GRANT_ROLES,), SEES_APPLICATIONS[1:]
        TABS[:] = [
            Entry("Groups", "groups:tree", "sitemap", sees, position=10, also_with=of_groups),
            Entry("Members", "members:list", "users", manages, position=20),
            Entry("Invitations", "invitations:list", "mail", manages, position=25),
            Entry("Roles", "roles:list", "shield-check", manages, position=30, also_with=grants),
            Entry("Applications", "applications:list", "apps", sees, position=40, also_with=of_applications),
        ]
        register(Entry("Groups & members", "groups:tree", "sitemap", sees, position=32, tabs=tuple(TABS), shortcut="u"))

        from orgs import checks
        from orgs.services.provisioning import refuse_deactivated

        register(
            Entry(
                "Provisioning",
                "provisioning:page",
                "users-group",
                Permission.MANAGE_SETTINGS,
                position=89,
                everywhere=True,
                shortcut="n",
            )
        )
        checks.before_seat(refuse_deactivated)
