from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from gateway_project.lib import lifespan
        from guardrails import new_models, offered, spending
        from orgs import approvals, consequences
        from orgs.navigation import Entry, Section, register
        from orgs.permissions import Permission
        from proxy import approval_reach, known_models, moving, newly_offered, spend, startup

        lifespan.on_startup(startup.ensure)
        # What guardrails' pages show of the ledger and the catalogue.
        spending.read_with(spend.spent)
        offered.read_with(known_models.known_models, by_name=known_models.known_names)
        new_models.read_with(newly_offered.newly_offered, by_name=newly_offered.by_own_name)
        approvals.read_with(approval_reach.reach_for)
        consequences.of_moves(moving.changes_of_move)
        register(Entry("Models", "catalogue:models", "cpu", Permission.VIEW_OWN, 20, Section.BUILD, shortcut="m"))
        register(Entry("Playground", "playground:page", "message", Permission.MANAGE_OWN_KEYS, 10, Section.BUILD, shortcut="p"))
        register(Entry("Explain", "explain:page", "help", Permission.VIEW_OWN, 40, Section.GOVERN, shortcut="e"))
        register(
            Entry(
                "Provider keys",
                "provider_keys:list",
                "plug",
                Permission.MANAGE_PROVIDER_KEYS,
                20,
                Section.PROVIDERS,
                shortcut="v",
            )
        )
        register(
            Entry(
                "Simulations",
                "simulations:list",
                "chart-histogram",
                Permission.MANAGE_GUARDRAILS,
                50,
                Section.GOVERN,
                shortcut="i",
            )
        )
        register(Entry("Presets", "presets:list", "sparkles", Permission.VIEW_OWN, 40, Section.BUILD, shortcut="t"))
        register(Entry("Routing", "routing:page", "route", Permission.MANAGE_ROUTING, 10, Section.PROVIDERS, shortcut="r"))
