"""Settings, all from the environment (see environment.py); the table of them stands in the README."""

import sys
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from gateway_project import environment, identity, mail
from gateway_project.lib import addresses, logs

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = environment.load()
GATEHOUSE_HOME = environment.home(ENV)

# Commands that must work on a fresh clone, before there is a server or a secret.
OFFLINE_COMMANDS = {
    "up", "bench", "check", "makemigrations", "collectstatic", "help", "spectacular",
    "score_routing", "train_routing",
}  # fmt: skip
OFFLINE = len(sys.argv) > 1 and Path(sys.argv[0]).name == "manage.py" and sys.argv[1] in OFFLINE_COMMANDS


def _flag(name: str, default: bool) -> bool:
    return ENV.get(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def _secret(name: str) -> str:
    value = ENV.get(name, "")
    if not value and not OFFLINE:
        missing = [one for one in environment.GENERATED if not ENV.get(one)]
        raise ImproperlyConfigured(
            f"{GATEHOUSE_HOME} holds no Gatehouse. Set {environment.HOME_VARIABLE} to the folder that `make run` used, as the"
            f" user it ran as, or begin here with `make run`; where secrets come from elsewhere, set {', '.join(missing)}."
        )
    return value or f"unset-{name}-of-an-offline-command-that-needs-no-secret-at-all"


DEBUG = _flag("DEBUG", False)
SECRET_KEY = _secret("SECRET_KEY")
GATEHOUSE_PEPPER = _secret("GATEHOUSE_PEPPER")
GATEHOUSE_KEYS = _secret("GATEHOUSE_KEYS")
PORT = int(ENV.get("PORT", "8000"))
PUBLIC_URL = ENV.get("PUBLIC_URL", f"http://127.0.0.1:{PORT}").rstrip("/")
SANDBOX_URL = ENV.get("SANDBOX_URL", f"http://127.0.0.1:{PORT}/sandbox/v1")
ALLOWED_HOSTS = [host for host in ENV.get("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",") if host]
CSRF_TRUSTED_ORIGINS = [origin for origin in ENV.get("CSRF_TRUSTED_ORIGINS", PUBLIC_URL).split(",") if origin]
SECURE = PUBLIC_URL.startswith("https://")

# --- servers -----------------------------------------------------------------------------------
DATABASE_URL = ENV.get("DATABASE_URL", "postgresql://gatehouse@127.0.0.1/gatehouse")
DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=600, conn_health_checks=True)}
DATABASES["default"]["OPTIONS"] = {
    # A server that says nothing must not hold a page.
    "connect_timeout": 5,
    **DATABASES["default"].get("OPTIONS", {}),
    # The bound that the policy epoch relies on: no console transaction outlives it (orgs/epoch.py).
    # No JIT: compiling takes longer than any statement of a page. Memory for hashing what the overview sums.
    # No workers beside: starting them takes longer than any statement of a page, and all cores are for calls.
    # Paths of the tree are joined by keys, in the order written: trying all other orders takes longer than they run.
    "options": "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000 -c jit=off -c work_mem=32MB"
    " -c max_parallel_workers_per_gather=0"
    " -c join_collapse_limit=4",
}
REDIS_URL = ENV.get("REDIS_URL", "redis://127.0.0.1:6379/0")


def _broker_url(redis_url: str) -> str:
    """kombu spells a unix socket its own way: redis+socket:///path?virtual_host=1."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://").split("?")[0] + "?virtual_host=1"
    return redis_url


CELERY_BROKER_URL = ENV.get("BROKER_URL") or _broker_url(REDIS_URL)
CHANNELS_URL = ENV.get("CHANNELS_URL") or REDIS_URL
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [CHANNELS_URL]}}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "gh:cache"}}

# --- applications ------------------------------------------------------------------------------
INSTALLED_APPS = [
    "gateway_project.apps.GatewayProjectConfig",
    "analytics",
    "proxy",
    "billing",
    "guardrails",
    "notifications",
    "orgs",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "mptt",
    "rest_framework",
    "channels",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.github",
    "allauth.socialaccount.providers.google",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "allauth.usersessions",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "gateway_project.lib.static_files.StaticFilesMiddleware",
    "gateway_project.lib.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "orgs.middleware.LastUseMiddleware",
    "orgs.middleware.LookingMiddleware",
    "orgs.middleware.FragmentMiddleware",
    "orgs.middleware.RefusedFormMiddleware",
    "orgs.middleware.LeavingMiddleware",
]
ROOT_URLCONF = "gateway_project.urls"
ASGI_APPLICATION = "gateway_project.asgi.application"
WSGI_APPLICATION = "gateway_project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "orgs.context.console",
                "gateway_project.degraded.banner",
            ]
        },
    }
]

FORM_RENDERER = "gateway_project.lib.widgets.WidgetRenderer"

# --- sign-in -----------------------------------------------------------------------------------
AUTH_USER_MODEL = "orgs.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
ACCOUNT_ADAPTER = "orgs.adapters.AccountAdapter"
SOCIALACCOUNT_ADAPTER = "orgs.adapters.SocialAccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
# Where e-mail is really sent, an address counts once it is confirmed; then sign-up tells nobody which addresses are taken.
MAIL = mail.settings(ENV)
globals().update(MAIL)
ACCOUNT_EMAIL_VERIFICATION = ENV.get("EMAIL_VERIFICATION") or ("mandatory" if "EMAIL_HOST" in MAIL else "optional")
ACCOUNT_UNIQUE_EMAIL = True
# Whether strangers may make an account of their own, with a personal account and no credit.
SIGN_UP_OPEN = _flag("SIGN_UP_OPEN", True)
ORGANIZATIONS_OPEN = _flag("ORGANIZATIONS_OPEN", True)
ACCOUNT_SESSION_REMEMBER = True
# Whoever finds a browser signed in must not make the account theirs: addresses, linked accounts, tokens.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
# True would write the session row on every page; orgs.middleware does it now and then.
USERSESSIONS_TRACK_ACTIVITY = False
# Whoever changes how they sign in is told by e-mail.
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE else "http"
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
# How often, by address of the network (ip), by account (key) or by signed-in person (user); counted in Redis.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "signup": "20/m/ip",
    "request_login_code": "20/m/ip,3/m/key",
    "reset_password": "20/m/ip,5/m/key",
    "reset_password_from_key": "20/m/ip",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
    "confirm_email": "1/3m/key",
    "sso": "60/m/ip",
}
ACCOUNT_FORMS = {
    "signup": "orgs.sign_in_forms.SignUpForm",
    "add_email": "orgs.sign_in_forms.AddAddressForm",
    "reset_password": "orgs.sign_in_forms.ResetForm",
    "request_login_code": "orgs.sign_in_forms.CodeForm",
    "change_password": "orgs.sign_in_forms.ChangeForm",
    "reset_password_from_key": "orgs.sign_in_forms.NewPasswordForm",
    "set_password": "orgs.sign_in_forms.FirstPasswordForm",
}
SOCIALACCOUNT_FORMS = {"signup": "orgs.sign_in_forms.SocialSignUpForm"}
MFA_ADAPTER = "orgs.adapters.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {"add_webauthn": "orgs.account_forms.AddPasskeyForm"}
MFA_PASSKEY_LOGIN_ENABLED = True
# Browsers offer passkeys over plain HTTP on this machine's own name only.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not SECURE
# One step of 30 seconds before and after: clocks of telephones differ.
MFA_TOTP_TOLERANCE = 1
MFA_RATE_LIMITS = {"webauthn_login": "10/m/ip"}
SOCIALACCOUNT_PROVIDERS = identity.providers(ENV)
SOCIALACCOUNT_ONLY = False

# --- browser security --------------------------------------------------------------------------
SESSION_ENGINE = "gateway_project.lib.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = SECURE
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _flag("TRUST_PROXY", False) else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- static files, time, language --------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = GATEHOUSE_HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "gateway_project.lib.static_files.StaticFilesStorage"},
}
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
USE_THOUSAND_SEPARATOR = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Prompts with pictures are large; the proxy's own limit is MAX_BODY_BYTES and answers 413 in the caller's shape.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
MAX_BODY_BYTES = int(ENV.get("MAX_BODY_BYTES", str(32 * 1024 * 1024)))
TEST_RUNNER = "django.test.runner.DiscoverRunner"

# --- proxy -------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Gatehouse",
    "DESCRIPTION": "What the console can do, by the same functions and with the same rights.",
    "VERSION": "v1",
    "SERVERS": [{"url": PUBLIC_URL}],
    "APPEND_COMPONENTS": {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key: `gh_sk_…`"}},
    },
    "ENUM_NAME_OVERRIDES": {
        "ExplainedVerdict": "proxy.explain_shapes.VERDICTS",
        "LimitKind": "guardrails.models.Limit.Kind",
        "LimitWindow": "guardrails.models.Limit.Window",
        "RuleKind": "guardrails.models.Rule.Kind",
        "OrganizationKind": "orgs.models.Organization.Kind",
        "SubjectKind": ["group", "member", "api_key", "application"],
        "OverrideKind": "guardrails.models.Override.Kind",
        "RequestStatus": "guardrails.models.Request.Status",
        "SimulationStatus": "proxy.models.Simulation.Status",
        "TriedKind": ["budget", "rpm", "tpm", "rpd", "max_tokens"],
        "TriedWindow": ["day", "week", "month", "quarter", "year", "total", "minute", "call"],
        "TriedListKind": ["models", "blocked_models"],
        "TargetKind": ["group", "members", "keys", "application"],
        "MovementKind": "billing.models.CreditTransaction.Kind",
        "CallStatus": "billing.models.UsageRecord.Status",
        "KeyStatus": "guardrails.selectors.STATUSES",
        "ErrorCode": "orgs.api.errors.EVERY_CODE",
    },
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
}
# Admissions wait for Redis, and answers for the ledger's commit, no longer than this.
GUARDRAILS_TIMEOUT_SECONDS = float(ENV.get("GUARDRAILS_TIMEOUT_SECONDS", "5"))
LEDGER_TIMEOUT_SECONDS = float(ENV.get("LEDGER_TIMEOUT_SECONDS", "10"))
# Where rows wait while PostgreSQL is away: a folder on a disk of this machine, and the most that one worker keeps there.
SPOOL_FOLDER = Path(ENV.get("SPOOL_FOLDER") or GATEHOUSE_HOME / "spool")
SPOOL_MAX_BYTES = int(ENV.get("SPOOL_MAX_BYTES", str(256 * 1024 * 1024)))
METRICS_TOKEN = ENV.get("METRICS_TOKEN", "")
# For so long a web process that is asked to end lets calls go on; in the last second of it those that remain are cut.
SHUTDOWN_SECONDS = int(ENV.get("SHUTDOWN_SECONDS", "20"))
if SHUTDOWN_SECONDS < 1:
    raise ImproperlyConfigured("SHUTDOWN_SECONDS must be at least 1: in the last second callers are told that they are cut.")
# A worker that has not renewed its lease for this long is taken for dead, and its holds are resolved.
# Whose X-Forwarded-For is believed: rules on addresses see the caller behind these.
TRUSTED_PROXIES = addresses.networks(ENV.get("TRUSTED_PROXIES", ""))
# Whom to ask for TXT records of domains that organisations prove: none means the machine's own; a port stands behind #.
DNS_SERVERS = [server.strip() for server in ENV.get("DNS_SERVERS", "").split(",") if server.strip()]
# Beside public addresses, where URLs that tenants give may lead.
OUTBOUND_ALLOWED_NETWORKS = addresses.networks(ENV.get("OUTBOUND_ALLOWED_NETWORKS", ""))
LEASE_SECONDS = float(ENV.get("LEASE_SECONDS", "10"))
if LEASE_SECONDS < 4:
    raise ImproperlyConfigured(
        "LEASE_SECONDS must be at least 4: a lease is renewed every second and given up two seconds early."
    )

# --- background work ---------------------------------------------------------------------------
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SOFT_TIME_LIMIT = 540
CELERY_TASK_TIME_LIMIT = 600
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Whoever hands work over is told at once that the queue is away; the library would let a person wait six seconds to hear it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"max_retries": 0}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(GATEHOUSE_HOME / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "close-spend-buckets": {"task": "billing.tasks.close_spend_buckets", "schedule": 15.0, "options": {"expires": 15}},
    "book-usage": {"task": "billing.tasks.book_usage", "schedule": 60.0, "options": {"expires": 60}},
    "create-partitions": {"task": "billing.tasks.create_partitions", "schedule": 3600.0, "options": {"expires": 600}},
    "roll-up-usage": {"task": "analytics.tasks.roll_up_usage", "schedule": 15.0, "options": {"expires": 15}},
    "poll-videos": {"task": "proxy.tasks.poll_videos", "schedule": 10.0, "options": {"expires": 10}},
    "prove-counters": {"task": "proxy.tasks.prove_counters", "schedule": 600.0, "options": {"expires": 600}},
    "tell-of-refused-keys": {"task": "proxy.tasks.tell_of_refused_keys", "schedule": 30.0, "options": {"expires": 30}},
    "recheck-domains": {"task": "orgs.tasks.recheck_domains", "schedule": 3600.0, "options": {"expires": 600}},
    "forget-answers": {"task": "orgs.tasks.forget_answers", "schedule": 3600.0, "options": {"expires": 600}},
    "verify-audit": {"task": "orgs.tasks.verify_audit", "schedule": 86_400.0, "options": {"expires": 3600}},
    "sweep-generations": {"task": "guardrails.tasks.sweep_generations", "schedule": 3600.0, "options": {"expires": 600}},
    "forget-expired": {"task": "proxy.tasks.forget_expired", "schedule": 300.0, "options": {"expires": 300}},
    "resolve-holds": {"task": "proxy.tasks.resolve_holds", "schedule": 5.0, "options": {"expires": 5}},
}

LOG_LEVEL = ENV.get("LOG_LEVEL", "INFO").upper()
LOGGING_CONFIG = None
logs.configure(level=LOG_LEVEL, as_json=_flag("LOG_JSON", False))
