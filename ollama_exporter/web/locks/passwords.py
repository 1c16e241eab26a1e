# SPDX-License-Identifier: Apache-2.0
"""Checks user names and passwords against bcrypt hashes, off the event loop."""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

from ollama_exporter.bounded import BoundedDict

REMEMBERED: Final = 100  # wrong logins
MOST_RIGHT: Final = 1000  # right ones, which wrong ones must not crowd out
MOST_WAITING: Final = 50  # logins; each takes some 70 ms at cost 10, and one runs at a time
SIGNIFICANT: Final = 72  # bytes of a password that bcrypt looks at
SCHEME: Final = b"basic "
# Of a random password that was thrown away. Checked at the highest cost of all users, an unknown
# one takes as long as a known one.
NOBODY: Final = "$2b$10$5PntHxrk6/AwVlDvipyDI.eOGpRl1/SCHcJGyYhPXd95B6IwJsT0q"


class TooManyLoginsError(Exception):
    """More logins are waiting to be checked than MOST_WAITING."""


def check_by_bcrypt(password: bytes, hashed: bytes) -> bool:
    """Return whether a hash is that of a password."""
    import bcrypt  # noqa: PLC0415 - half a MiB that an exporter without logins does not need

    return bcrypt.checkpw(password, hashed)


class Passwords:
    """Checks logins. One hash is computed at a time, and results are remembered."""

    def __init__(self, check: Callable[[bytes, bytes], bool] = check_by_bcrypt) -> None:
        """`check` compares a password with a hash; it takes its time and runs in a thread."""
        self._check = check
        self._right: BoundedDict[bytes, bool] = BoundedDict(MOST_RIGHT)
        self._wrong: BoundedDict[bytes, bool] = BoundedDict(REMEMBERED)
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    def remembered(self, users: Mapping[str, str], authorization: bytes) -> bool | None:
        """Return whether a login is right, if that is known without a hash; None: it is not."""
        login = credentials(authorization)
        return False if login is None else self._known(_key(users, *login))

    async def is_valid(self, users: Mapping[str, str], authorization: bytes) -> bool:
        """Return whether an Authorization field holds a user and the user's password.

        Raises TooManyLoginsError.
        """
        login = credentials(authorization)
        if login is None:
            return False
        user, password = login
        hashed, key = users.get(user), _key(users, user, password)
        if (known := self._known(key)) is not None:
            return known
        if self._waiting >= MOST_WAITING:
            raise TooManyLoginsError
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                if (known := self._known(key)) is not None:
                    return known
                of = hashed or nobody_among(users)
                is_equal = await asyncio.to_thread(self._compare, password, of)
                is_right = is_equal and hashed is not None
                (self._right if is_right else self._wrong)[key] = is_right
                return is_right
        finally:
            self._waiting -= 1

    def _known(self, key: bytes) -> bool | None:
        return self._right.get(key, self._wrong.get(key))

    def _compare(self, password: bytes, hashed: str) -> bool:
        try:
            return self._check(password[:SIGNIFICANT], hashed.encode())
        except ValueError:  # a NUL in the password, for older versions of the library
            return False


def nobody_among(users: Mapping[str, str]) -> str:
    """Return the hash that stands for an unknown user."""
    _, kind, own, rest = NOBODY.split("$")
    cost = max((hashed.split("$")[2] for hashed in users.values()), default=own)
    return f"${kind}${cost}${rest}"


def _key(users: Mapping[str, str], user: str, password: bytes) -> bytes:
    """Return what a result is remembered by. It tells nothing but to who knows the password."""
    return hashlib.sha256(repr((user, users.get(user), password[:SIGNIFICANT])).encode()).digest()


def credentials(authorization: bytes) -> tuple[str, bytes] | None:
    """Return user and password of an Authorization field; None if it holds none (RFC 7617)."""
    if not hmac.compare_digest(authorization[: len(SCHEME)].lower(), SCHEME):
        return None
    try:
        decoded = base64.b64decode(authorization[len(SCHEME) :].strip(), validate=True)
        user, colon, password = decoded.partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None
