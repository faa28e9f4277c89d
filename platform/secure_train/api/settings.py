"""How a control plane is set up: ``config.toml`` in its home, overridden by the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from secure_train.api.errors import ConfigurationError

ENVIRONMENT = "SECURE_TRAIN_"


class Settings(BaseModel):
    """Settings of one control plane. Paths are absolute once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8642
    database: str = Field("", description="SQLAlchemy URL; empty: SQLite in the home")
    public_url: str = Field(
        "", description="URL under which workers reach this control plane; empty: host and port"
    )
    origin: str = Field("secure-train.local/audit", description="name of the audit log in its checkpoints")
    policies: Path | None = Field(
        None, description="folder of *.cedar files; none: the policies that ship with us"
    )
    ray_address: str = Field(
        "", description="URL of Ray's Jobs API; empty: the embedded cluster of `secure-train up`"
    )
    ray_token_file: Path | None = Field(None, description="file with Ray's cluster token, mode 0600")
    cluster_wait_seconds: Annotated[float, Field(ge=0)] = Field(
        600.0,
        description="how long a job waits for a cluster that is too small for it to grow, before it fails",
    )
    audit_every_events: Annotated[int, Field(ge=1)] = 200
    audit_every_seconds: Annotated[float, Field(gt=0)] = 30.0
    max_table_rows: Annotated[int, Field(ge=1)] = 50_000_000
    max_table_bytes: int = Field(
        4 * 1024**3, ge=1, description="what a file of rows may unfold to in memory when it is registered"
    )
    max_upload_bytes: Annotated[int, Field(ge=1)] = 2 * 1024**3

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.home / 'control.db'}"

    @property
    def block_store(self) -> Path:
        """Directory of the sealed blocks."""
        return self.home / "blocks"

    @property
    def url(self) -> str:
        """URL under which this control plane is reached."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @classmethod
    def load(cls, home: Path) -> Settings:
        """Read ``config.toml`` of the home, if there is one, and then ``SECURE_TRAIN_*`` variables.

        Raises:
            ConfigurationError: naming the file or variable, the field, and what is allowed.
        """
        home = home.expanduser().resolve()
        path = home / "config.toml"
        given: dict[str, Any] = {}
        if path.exists():
            try:
                given = tomllib.loads(path.read_text("utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
        given.pop("home", None)
        sources = dict.fromkeys(given, str(path))
        for name in cls.model_fields:
            variable = ENVIRONMENT + name.upper()
            if name != "home" and variable in os.environ:
                given[name], sources[name] = os.environ[variable], f"environment variable {variable}"
        try:
            return cls(home=home, **given)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            raise ConfigurationError(f"{sources.get(field, path)}: {field}: {first['msg']}") from error
