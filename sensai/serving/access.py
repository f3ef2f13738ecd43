"""The token of those who may ask a server."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sensai.errors import InputError

_SHORTEST_TOKEN = 16
# They tell nothing about model or images.
OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/ping", "/docs", "/openapi.json"})


@dataclass(frozen=True)
class Token:
    """The secret that requests must have.

    Attributes:
        digest: its SHA-256, so that it is neither logged nor sent to other machines.
    """

    digest: bytes

    @classmethod
    def of_file(cls, path: str) -> Self:
        """Read the token in the first line of a file.

        Raises:
            InputError: the file cannot be read, or holds no line of 16 and more visible ASCII characters.
        """
        name = f"token_file={path!r}"
        try:
            with Path(path).open("rb") as file:
                line = file.readline(4096).strip()
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror})") from error
        if len(line) < _SHORTEST_TOKEN or not all(33 <= byte <= 126 for byte in line):
            raise InputError(
                f"{name}: its first line must be at least {_SHORTEST_TOKEN} visible ASCII characters, "
                "like those of `openssl rand -hex 32`"
            )
        return cls(hashlib.sha256(line).digest())

    def is_in(self, headers: Mapping[str, str]) -> bool:
        """Return True if the headers of a request have the token."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        return scheme.lower() == "bearer" and secrets.compare_digest(given, self.digest)
