"""Logins: a name and a password, or a token in the address."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Self
from urllib.parse import parse_qs

from ksnet_deploy.base.errors import ConfigError

__all__ = ["Login", "PasswordLogin", "TokenLogin", "new_token"]


class Login:
    """No login: everyone who reaches the server may use it."""

    def allows(self, headers: dict[str, str], query: str) -> bool:  # noqa: ARG002
        """Whether a request knows the secret; ``query`` is what follows the question mark of its address."""
        return True

    def answer_headers(self, query: str) -> list[tuple[bytes, bytes]]:  # noqa: ARG002
        """Headers that let the browser stay logged in; none where there is nothing to remember."""
        return []

    def refusal_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer to a request that does not know the secret."""
        return []


@dataclass(frozen=True)
class PasswordLogin(Login):
    """A name and a password, for which the browser asks (RFC 7617)."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Login of ``NAME:PASSWORD``. Raises ConfigError for anything else, without repeating it."""
        user, _, password = text.partition(":")
        if not user or not password:
            raise ConfigError("--auth is no name and password; give both, with a colon between them")
        return cls(user, password)

    def allows(self, headers: dict[str, str], query: str) -> bool:  # noqa: ARG002
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            said = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(said, f"{self.user}:{self.password}".encode())

    def refusal_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"www-authenticate", b'Basic realm="KSNet-Deploy", charset="UTF-8"')]


@dataclass(frozen=True)
class TokenLogin(Login):
    """A token in the address, which a cookie remembers."""

    token: str = field(repr=False)
    cookie: str
    """Name of the cookie; cookies know no ports, so each server has its own."""

    def allows(self, headers: dict[str, str], query: str) -> bool:
        return self._is(self._in_query(query)) or self._is(self._in_cookie(headers.get("cookie", "")))

    def answer_headers(self, query: str) -> list[tuple[bytes, bytes]]:
        if not self._is(self._in_query(query)):
            return []
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        return [(b"set-cookie", cookie.encode()), (b"location", b"/")]

    def _is(self, said: str) -> bool:
        return secrets.compare_digest(said.encode(), self.token.encode())

    def _in_query(self, query: str) -> str:
        return next(iter(parse_qs(query).get("token", [])), "")

    def _in_cookie(self, header: str) -> str:
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)
