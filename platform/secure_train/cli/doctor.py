"""The checks of ``secure-train doctor``: each finds one thing, and says what to do if it is wrong."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import httpx
from packaging.requirements import Requirement

from secure_train.api.control_plane import KEY_FILE, VAULT_FILE
from secure_train.api.settings import Settings
from secure_train.audit import NoteSigner, verify_log
from secure_train.cli import context as contexts
from secure_train.cli.errors import CliError
from secure_train.cli.stack import control_plane
from secure_train.cli.stack.home import Home
from secure_train.cli.stack.ray import with_embedded_ray
from secure_train.client import ApiError, Client, ClientError
from secure_train.db import Database, migrate
from secure_train.jobs.errors import LauncherError
from secure_train.jobs.launcher import RayLauncher
from secure_train.vault import KeyFile, SealedFileVault

PYTHON = (3, 11)
FREE_BYTES = 2 * 1024**3
CLOCK_SECONDS = 30
"""Capabilities are valid from the moment they are issued, so a worker's clock must not be far behind."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Attributes:
        ok: None if it does not apply yet.
        remedy: what to do if it is wrong.
    """

    name: str
    ok: bool | None
    finding: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: a home and its settings."""

    home: Home
    settings: Settings


Finding = tuple[bool | None, str]
NOT_YET = "not there yet; the first `secure-train up` makes it"


def examine(home: Home) -> list[Check]:
    """Make all checks. One that cannot be made fails, and the others are made all the same."""
    patient = Patient(home, Settings.load(home.path))
    return [_check(patient, *entry) for entry in CHECKS]


def _check(patient: Patient, name: str, look: Callable[[Patient], Finding], remedy: str) -> Check:
    try:
        ok, finding = look(patient)
    except Exception as error:  # whatever goes wrong in a check is its finding
        return Check(name, False, str(error) or f"stopped by {type(error).__name__}", remedy)
    return Check(name, ok, finding, remedy)


def _python(_: Patient) -> Finding:
    return sys.version_info >= PYTHON, sys.version.split()[0]


def _packages(_: Patient) -> Finding:
    wrong = []
    for text in requires("secure-train") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
        else:
            if not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{requirement.name} {found} instead of {requirement.specifier}")
    return not wrong, "; ".join(wrong) or f"secure-train {version('secure-train')} has all it needs"


def _imports(_: Patient) -> Finding:
    for name in ("torch", "ray"):
        import_module(name)
    return True, f"torch {version('torch')}, ray {version('ray')}"


def _home(patient: Patient) -> Finding:
    if not patient.home.path.is_dir():
        return None, NOT_YET
    patient.home.check()
    return True, f"{patient.home.path} is yours alone"


def _disk(patient: Patient) -> Finding:
    place = patient.home.path
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free
    return free >= FREE_BYTES, f"{free / 1024**3:.1f} GiB free"


def _vault(patient: Patient) -> Finding:
    path = patient.home.path / VAULT_FILE
    if not path.exists():
        return None, NOT_YET
    vault = SealedFileVault.open(path, KeyFile(patient.home.path / KEY_FILE))
    return True, f"opens; {len(vault.inventory())} keys, and the key file is yours alone"


def _database(patient: Patient) -> Finding:
    database = Database(patient.settings.database_url)
    if database.is_sqlite and not os.path.exists(str(database.url.database)):
        return None, NOT_YET
    try:
        current, head = migrate.current(database), migrate.head()
    finally:
        database.close()
    return current == head, f"at migration {current or 'none'}, this version needs {head}"


def _blocks(patient: Patient) -> Finding:
    if not patient.settings.block_store.is_dir():
        return None, NOT_YET
    with tempfile.TemporaryFile(dir=patient.settings.block_store):
        return True, f"{patient.settings.block_store} can be written"


def _ray(patient: Patient) -> Finding:
    settings = with_embedded_ray(patient.home, patient.settings)
    if not settings.ray_address:
        return False, "no Ray runs here and no ray_address is set"
    try:
        RayLauncher(settings.ray_address, settings.ray_token_file).ping()
    except LauncherError as error:
        return False, str(error)
    return True, f"answers at {settings.ray_address}"


def _url(patient: Patient) -> str | None:
    """Where the control plane is: of the current context, else of this home."""
    try:
        return contexts.current().url
    except CliError:
        record = control_plane.running(patient.home)
        return None if record is None else record.url


def _control_plane(patient: Patient) -> Finding:
    url = _url(patient)
    if url is None:
        return False, "none runs here and no context is set"
    return control_plane.answers(url), url


def _clock(patient: Patient) -> Finding:
    url = _url(patient)
    if url is None:
        return None, "no control plane to compare with"
    before = datetime.now(UTC)
    try:
        answer = httpx.get(f"{url}/healthz", timeout=control_plane.HEALTH_SECONDS)
    except httpx.TransportError:
        return None, "the control plane does not answer"
    if "date" not in answer.headers:
        return None, "what answers there does not tell the time"
    skew = abs((parsedate_to_datetime(answer.headers["date"]) - before).total_seconds())
    return skew <= CLOCK_SECONDS, f"{skew:.0f} s between this clock and the control plane's"


def _login(_: Patient) -> Finding:
    try:
        context = contexts.current()
    except CliError as error:
        return None, str(error)
    with Client(context.url, context.token) as client:
        try:
            return True, f"{client.whoami().id} at {context.url}"
        except (ApiError, ClientError) as error:
            return False, str(error)


def _audit(patient: Patient) -> Finding:
    path = patient.home.path / VAULT_FILE
    if not path.exists():
        return None, NOT_YET
    vault = SealedFileVault.open(path, KeyFile(patient.home.path / KEY_FILE))
    verifier = NoteSigner(patient.settings.origin, vault.signing_key("audit", create=False)).verifier
    database = Database(patient.settings.database_url)
    try:
        with database.read() as session:
            report = verify_log(session, verifier)
    finally:
        database.close()
    return True, f"verified: {report.events} events, {report.unsigned_tail} of them not signed yet"


CHECKS: tuple[tuple[str, Callable[[Patient], Finding], str], ...] = (
    ("python", _python, f"use Python {'.'.join(map(str, PYTHON))} or newer"),
    ("packages", _packages, "install secure-train again, in an environment of its own"),
    ("torch and ray", _imports, "install secure-train again; the error says which library does not load"),
    ("home", _home, "chmod 700 the home, or choose another with --home"),
    ("disk", _disk, "free some space, or choose another home with --home"),
    ("vault", _vault, "restore vault.json and vault.key from their backup; chmod 600 vault.key"),
    ("database", _database, "secure-train db upgrade"),
    ("block store", _blocks, "give yourself write permission on it"),
    ("ray", _ray, "secure-train up"),
    ("control plane", _control_plane, "secure-train up, or secure-train login --url URL"),
    ("clock", _clock, "let both machines keep time by NTP"),
    ("login", _login, "secure-train login --url URL, with a new token"),
    ("audit trail", _audit, "keep the database as it is and call your security team"),
)
