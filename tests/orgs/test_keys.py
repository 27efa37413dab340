import re

from orgs import access
from orgs.keys import new_key_text


def test_the_text_of_a_key_has_its_form() -> None:
    for _ in range(200):
        key = new_key_text()
        assert re.fullmatch(r"gh_sk_[a-z0-9]{12}_[A-Za-z0-9]{43}", key.text)
        assert access.KEY.fullmatch(key.text)
        assert key.text == f"gh_sk_{key.public_id}_{key.secret}"
        assert key.text.endswith(key.last_four)
        assert len(key.last_four) == 4


def test_no_two_keys_are_alike() -> None:
    keys = [new_key_text() for _ in range(1000)]
    assert len({key.public_id for key in keys}) == len({key.secret for key in keys}) == 1000
