import pytest

from orgs import user_agents

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "name", "is_phone"),
    [
        (CHROME, "Chrome on Windows", False),
        (f"{CHROME} Edg/140.0.0.0", "Edge on Windows", False),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux", False),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) AppleWebKit/605.1.15 Version/19.0 Safari/605.1.15",
            "Safari on macOS",
            False,
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) CriOS/140.0 Mobile Safari/604.1", "Chrome on iPhone", True),
        (
            "Mozilla/5.0 (Linux; Android 16) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36",
            "Samsung Internet on Android",
            True,
        ),
        ("curl/8.5.0", "curl", False),
        ("", "Unknown browser", False),
        ("x" * 1000, "Unknown browser", False),
    ],
)
def test_browsers_go_by_their_names(agent: str, name: str, is_phone: bool) -> None:
    assert user_agents.named(agent) == name
    assert user_agents.is_phone(agent) is is_phone
