from django.apps import AppConfig


class OrgsConfig(AppConfig):
    name = "orgs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgs.navigation import TABS, Entry, Section, register
        from orgs.permissions import Permission
        from orgs.sign_in_events import connect
        from orgs.tree import SEES_APPLICATIONS, SEES_GROUPS

        connect()
        register(Entry("Audit log", "audit:list", "history", Permission.VIEW_AUDIT, 10, Section.ORGANISATION, shortcut="a"))
        for label, url_name, icon, position, shortcut in (
            ("Single sign-on", "sso_console:connections", "fingerprint", 20, "l"),
            ("Domains", "sso_console:domains", "world", 30, "d"),
            ("Provisioning", "provisioning:page", "users-group", 40, "n"),
            ("Settings", "orgs:settings", "settings", 50, "s"),
        ):
            of_all = Entry(
                label,
                url_name,
                icon,
                Permission.MANAGE_SETTINGS,
                position,
                Section.ORGANISATION,
                everywhere=True,
                shortcut=shortcut,
            )
            register(of_all)
        sees, manages = Permission.VIEW_USAGE, Permission.MANAGE_MEMBERS
        of_groups, grants, of_applications = SEES_GROUPS[1:], (Permission.GRANT_ROLES,), SEES_APPLICATIONS[1:]
        TABS[:] = [
            Entry("Groups", "groups:tree", "sitemap", sees, position=10, also_with=of_groups),
            Entry("Members", "members:list", "users", manages, position=20),
            Entry("Invitations", "invitations:list", "mail", manages, position=25),
            Entry("Roles", "roles:list", "shield-check", manages, position=30, also_with=grants),
            Entry("Applications", "applications:list", "apps", sees, position=40, also_with=of_applications),
        ]
        register(Entry("Groups & members", "groups:tree", "sitemap", sees, 10, Section.GOVERN, tabs=tuple(TABS), shortcut="u"))

        from orgs import checks
        from orgs.services.provisioning import refuse_deactivated

        checks.before_seat(refuse_deactivated)
