"""Where the command line remembers its server and token: one JSON file that only its owner may read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """A server's URL and a token that it gave."""

    server: str
    token: str


class BrokenCredentialsError(Exception):
    """The credentials file is there and cannot be used; the message names it."""


def credentials_path(environ: dict[str, str] | None = None) -> Path:
    """The file: in $CPN_CONFIG_DIR, else in ~/.config/cpn."""
    values = dict(os.environ) if environ is None else environ
    folder = values.get("CPN_CONFIG_DIR")
    return (Path(folder) if folder else Path.home() / ".config" / "cpn") / FILE


def read_credentials(path: Path) -> Credentials | None:
    """What is remembered; None when nothing is. Raises BrokenCredentialsError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Credentials(server=str(document["server"]), token=str(document["token"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenCredentialsError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenCredentialsError(f'{path} is not a JSON object with "server" and "token"; remove it, or run `cpn up` again') from error


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Remember, whole or not at all, with file mode 0600. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(asdict(credentials), stream)
            stream.write("\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def forget_credentials(path: Path, credentials: Credentials) -> None:
    """Remove the file when it still holds exactly these."""
    try:
        if read_credentials(path) == credentials:
            path.unlink()
    except (BrokenCredentialsError, FileNotFoundError):
        return
