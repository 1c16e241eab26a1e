# SPDX-License-Identifier: Apache-2.0
"""Logins: right, wrong, odd, and many at once."""

import asyncio
import base64
import threading

import bcrypt
import pytest

from ollama_exporter.web.locks.passwords import (
    MOST_WAITING,
    NOBODY,
    REMEMBERED,
    Passwords,
    TooManyLoginsError,
    credentials,
    nobody_among,
)
from tests.support.growth import assert_linear
from tests.support.patience import PATIENCE


def field(login: bytes) -> bytes:
    return b"Basic " + base64.b64encode(login)


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize(
    ("sent", "valid"),
    [
        (field(b"alice:pass:word"), True),
        (b"bAsIc  " + base64.b64encode(b"alice:pass:word"), True),
        (field(b"alice:wrong"), False),
        (field(b"alice:"), False),
        (field(b"alice"), False),
        (field(b"bob:pass:word"), False),
        (field(b":pass:word"), False),
        (field(b"alice:\x00"), False),
        (field(b"\xff:pass:word"), False),
        (b"Basic !!!", False),
        (field(b"alice:pass:word") + b"!", False),
        (b"Bearer abc", False),
        (b"", False),
        (b"Basic " + b"A" * 65536, False),
    ],
)
def test_a_login(sent: bytes, *, valid: bool) -> None:
    users = {"alice": hashed(b"pass:word")}
    assert asyncio.run(Passwords().is_valid(users, sent)) is valid


def test_an_unknown_user_costs_a_hash_and_its_dummy_lets_nobody_in() -> None:
    compared = list[bytes]()

    def check(_password: bytes, hash_: bytes) -> bool:
        compared.append(hash_)
        return True  # as if somebody knew the dummy's password

    assert not asyncio.run(Passwords(check).is_valid({}, field(b"eve:x")))
    assert compared == [NOBODY.encode()]
    costly = nobody_among({"a": NOBODY, "b": NOBODY.replace("$10$", "$12$")})
    assert costly == NOBODY.replace("$10$", "$12$")


def test_results_are_remembered_until_the_hash_changes() -> None:
    calls = 0

    def check(password: bytes, hash_: bytes) -> bool:
        nonlocal calls
        calls += 1
        return bcrypt.checkpw(password, hash_)

    async def story() -> None:
        passwords, users = Passwords(check), {"alice": hashed(b"one")}
        assert [await passwords.is_valid(users, field(b"alice:one")) for _ in range(3)] == [
            True
        ] * 3
        assert calls == 1
        users["alice"] = hashed(b"two")
        assert not await passwords.is_valid(users, field(b"alice:one"))
        assert await passwords.is_valid(users, field(b"alice:two"))
        assert not await passwords.is_valid({}, field(b"alice:two"))

    asyncio.run(story())


def test_wrong_logins_do_not_crowd_out_right_ones() -> None:
    checked: list[bytes] = []

    def check(password: bytes, _hash: bytes) -> bool:
        checked.append(password)
        return password == b"right"

    async def story() -> None:
        passwords, users = Passwords(check), {"alice": hashed(b"x")}
        assert await passwords.is_valid(users, field(b"alice:right"))
        for number in range(2 * REMEMBERED):
            assert not await passwords.is_valid(users, field(b"alice:%d" % number))
        assert passwords.remembered(users, field(b"alice:right"))
        assert passwords.remembered(users, field(b"alice:0")) is None

    asyncio.run(story())


def test_one_hash_at_a_time_and_a_bound_on_those_that_wait() -> None:
    async def story() -> None:
        free, running = threading.Event(), 0

        def check(_password: bytes, _hash: bytes) -> bool:
            nonlocal running
            running += 1
            assert running == 1
            assert free.wait(PATIENCE)
            running -= 1
            return True

        passwords, users = Passwords(check), {"alice": hashed(b"x")}
        logins = [
            asyncio.create_task(passwords.is_valid(users, field(b"alice:%d" % number)))
            for number in range(MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyLoginsError):
            await passwords.is_valid(users, field(b"alice:more"))
        free.set()
        assert all(await asyncio.gather(*logins))
        assert await passwords.is_valid(users, field(b"alice:more"))

    asyncio.run(story())


@pytest.mark.parametrize("unit", [b"A", b"=", b" ", b"\xff", b":"])
def test_a_field_is_read_in_linear_time(unit: bytes) -> None:
    assert_linear(credentials, lambda size: b"Basic " + unit * size)


def test_a_password_that_the_library_rejects_is_wrong() -> None:
    def rejecting(_password: bytes, _hashed: bytes) -> bool:
        raise ValueError("password may not contain NUL bytes")

    sent = b"Basic " + base64.b64encode(b"alice:a\0b")
    assert asyncio.run(Passwords(rejecting).is_valid({"alice": NOBODY}, sent)) is False
