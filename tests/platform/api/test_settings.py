"""Settings: from config.toml, overridden by the environment, refused with file and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_train.api.errors import ConfigurationError
from secure_train.api.settings import Settings


def test_without_a_file_the_embedded_defaults_hold(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/control.db"
    assert settings.url == "http://127.0.0.1:8642"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('port = 9000\norigin = "example.com/audit"\n')
    monkeypatch.setenv("SECURE_TRAIN_PORT", "9001")
    settings = Settings.load(tmp_path)
    assert (settings.port, settings.origin) == (9001, "example.com/audit")


@pytest.mark.parametrize(
    ("text", "named"), [("port = 70000", "port"), ("prot = 1", "prot"), ("port = ", "not valid TOML")]
)
def test_a_wrong_setting_is_refused_with_its_file_and_field(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=named) as raised:
        Settings.load(tmp_path)
    assert str(tmp_path / "config.toml") in str(raised.value)


def test_a_wrong_variable_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURE_TRAIN_AUDIT_EVERY_EVENTS", "none")
    with pytest.raises(ConfigurationError, match="SECURE_TRAIN_AUDIT_EVERY_EVENTS"):
        Settings.load(tmp_path)
