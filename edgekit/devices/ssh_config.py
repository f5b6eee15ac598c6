"""The user's OpenSSH configuration, as far as edgekit follows it: how to reach and know a host.

Read from ``~/.ssh/config`` only, never from a bundle or a project. Nothing in it is ever
run: what would start a program (``ProxyCommand``, ``Match exec``) is refused by name.
"""

from __future__ import annotations

import fnmatch
import getpass
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgekit.domain import Target
from edgekit.errors import ConnectionFailed

DEFAULT_PORT = 22
_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_LISTS = frozenset({"identityfile"})
_MAX_DEPTH = 8
_LINE = re.compile(r"(?P<key>\w+)(?:\s*=\s*|\s+)(?P<value>.+)")
_WORD = re.compile(r'"([^"]*)"|(\S+)')

Options = dict[str, list[str]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One host to connect to, with everything the configuration says about it."""

    host: str
    port: int
    user: str
    key_name: str
    """What the host is called in known_hosts; its port is added there unless it is an alias."""
    is_alias: bool
    identities: tuple[Path, ...]
    identities_only: bool
    user_known_hosts: tuple[Path, ...]
    global_known_hosts: tuple[Path, ...]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


def route(target: Target) -> tuple[Endpoint, ...]:
    """The hosts to go through, in order; the target comes last.

    Raises:
        ConnectionFailed: the configuration cannot be read, asks for a program to be run,
            or jumps in a circle.
    """
    return tuple(_route(target, 0))


def _route(target: Target, depth: int) -> Iterator[Endpoint]:
    if depth > _MAX_DEPTH:
        raise ConnectionFailed(f"ProxyJump of {target.host}: more than {_MAX_DEPTH} hosts deep")
    options = _lookup(target)
    for index, jump in enumerate(_jumps(options, target.host)):
        # As with `ssh -J a,b`: only the first is reached as its own configuration says.
        hops = list(_route(jump, depth + 1))
        yield from hops if index == 0 else hops[-1:]
    yield _endpoint(target, options)


def _jumps(options: Options, host: str) -> tuple[Target, ...]:
    via = next((key for key in options if key in ("proxyjump", "proxycommand")), None)
    value = " ".join(options[via]) if via else "none"
    if value.lower() == "none":
        return ()
    if via == "proxycommand":
        raise ConnectionFailed(
            f"~/.ssh/config sets ProxyCommand for {host}, and edgekit runs no commands from there",
            f"go by the system's ssh, which does: openssh://{host}; or use ProxyJump",
        )
    return tuple(_jump(hop.strip(), host) for hop in value.split(","))


def _jump(text: str, host: str) -> Target:
    match = re.fullmatch(
        r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:@\[\]]+)(?::(?P<port>\d+))?/?",
        text,
    )
    if match is None or match["host"].startswith("-"):
        raise ConnectionFailed(f"ProxyJump of {host}: expected [user@]host[:port], got {text!r}")
    port = int(match["port"]) if match["port"] else None
    return Target(transport="ssh", host=match["host"].strip("[]"), port=port, user=match["user"])


def _endpoint(target: Target, options: Options) -> Endpoint:
    def first(key: str, default: str) -> str:
        return options.get(key, [default])[0]

    host = _expand(first("hostname", target.host), {"h": target.host, "n": target.host})
    user = target.user or first("user", getpass.getuser())
    port = target.port or _port(first("port", str(DEFAULT_PORT)), target.host)
    tokens = {"h": host, "n": target.host, "p": str(port), "r": user, "u": getpass.getuser()}

    def paths(key: str, default: tuple[str, ...]) -> tuple[Path, ...]:
        values = [value for value in options.get(key, default) if value.lower() != "none"]
        return tuple(_path(_expand(value, tokens)) for value in values)

    return Endpoint(
        host=host,
        port=port,
        user=user,
        key_name=first("hostkeyalias", host).lower(),
        is_alias="hostkeyalias" in options,
        identities=paths("identityfile", _IDENTITIES),
        identities_only=first("identitiesonly", "no").lower() == "yes",
        user_known_hosts=paths("userknownhostsfile", _USER_KNOWN_HOSTS),
        global_known_hosts=paths("globalknownhostsfile", _GLOBAL_KNOWN_HOSTS),
    )


def _port(text: str, host: str) -> int:
    if not text.isdecimal():
        raise ConnectionFailed(f"~/.ssh/config: Port of {host}: expected a number, got {text!r}")
    return int(text)


def _expand(value: str, tokens: dict[str, str]) -> str:
    """Replace ``%h`` and its like; an unknown one stays as it is."""
    known = {"%": "%", "d": str(Path.home()), **tokens}
    return re.sub(r"%(.)", lambda match: known.get(match[1], match[0]), value)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _lookup(target: Target) -> Options:
    """What the configuration sets for a host: the first value wins, identity files add up."""
    options: Options = {}
    applies = True
    for where, key, values in _lines(_path("~/.ssh/config"), 0):
        if key == "host":
            applies = _matches(values, target.host)
        elif key == "match":
            applies = _match(values, where, target, options)
        elif applies and key in _LISTS:
            options.setdefault(key, []).extend(values)
        elif applies:
            options.setdefault(key, values)
    return options


def _lines(path: Path, depth: int) -> Iterator[tuple[str, str, list[str]]]:
    """Where it stands, keyword and arguments of every line, includes in their place."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConnectionFailed(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}, line {number}"
        match = _LINE.fullmatch(line.strip())
        if match is None or line.lstrip().startswith("#"):
            continue
        key, values = match["key"].lower(), _arguments(match["value"])
        if key != "include":
            yield where, key, values
        elif depth < _MAX_DEPTH:
            yield from _included(values, depth)


def _included(patterns: Iterable[str], depth: int) -> Iterator[tuple[str, str, list[str]]]:
    for pattern in patterns:
        path = _path("~/.ssh") / _path(pattern)
        for found in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
            yield from _lines(found, depth + 1)


def _arguments(value: str) -> list[str]:
    """Words, or what stands in double quotes, up to a comment."""
    words = [quoted or word for quoted, word in _WORD.findall(value)]
    comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment] or [""]


def _matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name is in a pattern list: one that is negated excludes it."""
    found = False
    for pattern in patterns:
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _match(values: list[str], where: str, target: Target, options: Options) -> bool:
    """Whether a ``Match`` line applies; its criteria are weighed from the left, as by ssh."""
    rest = iter(values)
    for word in rest:
        criterion = word.lower().removeprefix("!")
        if criterion == "all":
            continue
        if criterion in ("canonical", "final"):
            holds = False
        else:
            holds = _criterion(criterion, next(rest, ""), where, target, options)
        if holds is word.startswith("!"):
            return False
    return True


def _criterion(name: str, value: str, where: str, target: Target, options: Options) -> bool:
    subjects = {
        "host": options.get("hostname", [target.host])[0],
        "originalhost": target.host,
        "user": target.user or options.get("user", [getpass.getuser()])[0],
        "localuser": getpass.getuser(),
    }
    if name not in subjects:
        raise ConnectionFailed(
            f"{where}: edgekit does not follow `Match {name}`",
            f"go by the system's ssh, which does: openssh://{target.host}; or put the settings "
            "under a Host line",
        )
    return _matches(value.split(","), subjects[name])
