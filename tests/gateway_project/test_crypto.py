"""Secrets at rest: they open with the right key, in the right row, unchanged, and not otherwise."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib import crypto
from gateway_project.lib.crypto import CannotDecrypt

ROW = "proxy.provider:17"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def key(name: str) -> str:
    return f"{name}:{base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()}"


def ring(*names: str) -> Any:
    return override_settings(GATEHOUSE_KEYS=",".join(map(key, names)))


@given(text=TEXT, row=TEXT)
def test_any_text_opens_in_its_own_row(text: str, row: str) -> None:
    assert crypto.decrypt(crypto.encrypt(text, bound_to=row), bound_to=row) == text


@given(text=st.text(min_size=8, max_size=50, alphabet="abcdefghijklmnop"))
def test_neither_the_text_nor_its_equality_can_be_seen(text: str) -> None:
    first, second = crypto.encrypt(text, bound_to=ROW), crypto.encrypt(text, bound_to=ROW)
    assert first != second
    assert text not in first


@given(content=st.binary(max_size=200), row=TEXT)
def test_any_contents_open_in_their_own_row_and_in_no_other(content: bytes, row: str) -> None:
    sealed = crypto.seal(content, bound_to=row)
    assert crypto.unseal(sealed, bound_to=row) == content
    with pytest.raises(CannotDecrypt):
        crypto.unseal(sealed, bound_to=row + "x")


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_single_changed_bit_of_sealed_contents_is_noticed(position: int, bit: int) -> None:
    sealed = bytearray(crypto.seal(b"what was said", bound_to=ROW))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(CannotDecrypt):
        crypto.unseal(bytes(sealed), bound_to=ROW)


@given(length=st.integers(0, 60))
def test_sealed_contents_that_were_cut_do_not_open(length: int) -> None:
    sealed = crypto.seal(b"what was said", bound_to=ROW)
    with pytest.raises(CannotDecrypt):
        crypto.unseal(sealed[: min(length, len(sealed) - 1)], bound_to=ROW)


def test_contents_open_under_any_key_of_the_ring_and_under_no_key_that_has_left_it() -> None:
    with ring("2026.11"):
        sealed = crypto.seal(b"what was said", bound_to=ROW)
    with ring("2026.12", "2026.11"):
        assert crypto.unseal(sealed, bound_to=ROW) == b"what was said"
    with ring("2026.12"), pytest.raises(CannotDecrypt, match=r"proxy\.provider:17"):
        crypto.unseal(sealed, bound_to=ROW)


def test_a_value_moved_to_another_row_does_not_open() -> None:
    stored = crypto.encrypt("sk-live", bound_to=ROW)
    with pytest.raises(CannotDecrypt, match=r"proxy\.provider:18"):
        crypto.decrypt(stored, bound_to="proxy.provider:18")


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), part=st.sampled_from([2, 3]))
def test_a_single_changed_bit_is_noticed(position: int, bit: int, part: int) -> None:
    parts = crypto.encrypt("a provider's key", bound_to=ROW).split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    raw[position % len(raw)] ^= 1 << bit
    parts[part] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    with pytest.raises(CannotDecrypt):
        crypto.decrypt(".".join(parts), bound_to=ROW)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 20])
def test_a_cut_value_is_noticed(length: int) -> None:
    version, key_id, nonce, ciphertext = crypto.encrypt("a provider's key", bound_to=ROW).split(".")
    with pytest.raises(CannotDecrypt):
        crypto.decrypt(f"{version}.{key_id}.{nonce}.{ciphertext[:length]}", bound_to=ROW)


@pytest.mark.parametrize(
    "stored", ["", "plain text", "v1", "v1.k1", "v1.k1.AAAA", "v1.k1..", "v1.k1.AAAA.A", "v1.k1.é.AAAA", "....", "v1.k1.a.b.c"]
)
def test_what_was_never_encrypted_is_refused_without_quoting_it(stored: str) -> None:
    with ring("k1"), pytest.raises(CannotDecrypt) as caught:
        crypto.decrypt(stored, bound_to=ROW)
    assert ROW in str(caught.value)


@given(stored=st.text(max_size=60))
def test_garbage_never_raises_anything_else(stored: str) -> None:
    with pytest.raises(CannotDecrypt):
        crypto.decrypt(stored, bound_to=ROW)


def test_an_unknown_format_is_not_guessed_at() -> None:
    _, rest = crypto.encrypt("text", bound_to=ROW).split(".", 1)
    with pytest.raises(CannotDecrypt, match="v2"):
        crypto.decrypt(f"v2.{rest}", bound_to=ROW)


def test_after_a_rotation_old_values_open_and_new_ones_use_the_new_key() -> None:
    with ring("old"):
        stored = crypto.encrypt("text", bound_to=ROW)
    with ring("new", "old"):
        assert crypto.decrypt(stored, bound_to=ROW) == "text"
        fresh = crypto.encrypt("text", bound_to=ROW)
        assert fresh.startswith("v1.new.")
    with ring("new"):
        assert crypto.decrypt(fresh, bound_to=ROW) == "text"
        with pytest.raises(CannotDecrypt, match="key ring"):
            crypto.decrypt(stored, bound_to=ROW)


def test_another_key_under_the_same_name_does_not_open() -> None:
    with ring("k1"):
        stored = crypto.encrypt("text", bound_to=ROW)
    other = f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}"
    with override_settings(GATEHOUSE_KEYS=other), pytest.raises(CannotDecrypt):
        crypto.decrypt(stored, bound_to=ROW)


@pytest.mark.parametrize("name", ["k1", "2026-11", "2026.11", "a.b.c"])
def test_whatever_a_key_is_called_its_values_open(name: str) -> None:
    with ring(name, "older"):
        assert crypto.decrypt(crypto.encrypt("text", bound_to=ROW), bound_to=ROW) == "text"


def test_spaces_in_the_key_ring_do_no_harm() -> None:
    with override_settings(GATEHOUSE_KEYS=f"{key('new')} , {key('old')}"):
        stored = crypto.encrypt("text", bound_to=ROW)
    with ring("old", "new"):
        assert crypto.decrypt(stored, bound_to=ROW) == "text"


def test_a_moved_key_name_is_noticed() -> None:
    with ring("one", "two"):
        stored = crypto.encrypt("text", bound_to=ROW)
        with pytest.raises(CannotDecrypt):
            crypto.decrypt(stored.replace(".one.", ".two."), bound_to=ROW)


@override_settings(GATEHOUSE_PEPPER="pepper")
def test_a_digest_is_hmac_sha256_under_the_pepper() -> None:
    assert crypto.digest("gh_sk_x") == hmac.new(b"pepper", b"gh_sk_x", hashlib.sha256).digest()


@given(one=TEXT, other=TEXT)
def test_digests_tell_secrets_apart(one: str, other: str) -> None:
    assert (crypto.digest(one) == crypto.digest(other)) == (one == other)
    assert len(crypto.digest(one)) == 32


def test_the_same_secret_has_another_digest_elsewhere() -> None:
    with override_settings(GATEHOUSE_PEPPER="here"):
        here = crypto.digest("gh_sk_x")
    with override_settings(GATEHOUSE_PEPPER="there"):
        assert crypto.digest("gh_sk_x") != here
