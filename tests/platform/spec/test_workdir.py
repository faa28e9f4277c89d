"""Packages of code: reproducible, complete, and safe to unpack."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from secure_train.spec import Limits, WorkdirError, pack, unpack

NO_DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    (root / "pkg" / "deep").mkdir(parents=True)
    (root / "train.py").write_text("print('hi')\n")
    (root / "pkg" / "__init__.py").write_text("")
    (root / "pkg" / "deep" / "ümlaut.py").write_text("x = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    return root


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return zstandard.compress(buffer.getvalue())


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"a")
    (tmp_path / "run").write_bytes(b"b")
    (tmp_path / "run").chmod(0o700)
    listing = (
        b'[{"executable":false,"path":"a.py",'
        b'"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},'
        b'{"executable":true,"path":"run",'
        b'"sha256":"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"}]'
    )
    assert pack(tmp_path).digest == f"sha256:{hashlib.sha256(listing).hexdigest()}"


def test_a_package_comes_back_file_by_file(code: Path, tmp_path: Path) -> None:
    package = pack(code)
    dest = tmp_path / "new" / "dest"
    assert unpack(package.data, dest, package.digest) == package.files
    assert [file.path for file in package.files] == [
        "pkg/__init__.py",
        "pkg/deep/ümlaut.py",
        "run.sh",
        "train.py",
    ]
    for file in package.files:
        assert (dest / file.path).read_bytes() == (code / file.path).read_bytes()
        assert os.access(dest / file.path, os.X_OK) == file.executable == (file.path == "run.sh")
        assert stat.S_IMODE((dest / file.path).stat().st_mode) & 0o077 == 0
    assert pack(dest) == package
    assert list(dest.parent.iterdir()) == [dest]


def test_the_same_files_are_the_same_bytes_whatever_their_age_and_owner(code: Path) -> None:
    before = pack(code)
    for path in code.rglob("*"):
        os.utime(path, (1, 1))
    (code / "train.py").chmod(0o604)
    assert pack(code) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda code: (code / "train.py").write_text("print('ho')\n"),
        lambda code: (code / "train.py").chmod(0o755),
        lambda code: (code / "train.py").rename(code / "main.py"),
        lambda code: (code / "pkg" / "new.py").touch(),
        lambda code: (code / "run.sh").unlink(),
    ],
)
def test_any_change_of_content_name_or_mode_changes_the_digest(
    code: Path, change: Callable[[Path], object]
) -> None:
    before = pack(code).digest
    change(code)
    assert pack(code).digest != before


def test_what_is_not_code_is_left_out(code: Path) -> None:
    wanted = pack(code)
    for folder in (".git", ".venv", "__pycache__", "pkg/__pycache__"):
        (code / folder).mkdir()
        (code / folder / "x").write_text("x")
    assert pack(code) == wanted


def test_the_ignore_file_names_paths_names_and_folders(code: Path) -> None:
    (code / "data").mkdir()
    (code / "data" / "rows.csv").write_text("secret")
    (code / "pkg" / "notes.md").write_text("x")
    (code / "pkg" / "data").write_text("a file")
    (code / ".secure-train-ignore").write_text("# comment\n\ndata/\n*.md\npkg/deep/*\n")
    assert [file.path for file in pack(code).files] == ["pkg/__init__.py", "pkg/data", "run.sh", "train.py"]


def test_an_ignored_folder_is_not_entered(code: Path) -> None:
    (code / "links").mkdir()
    (code / "links" / "out").symlink_to("/etc/passwd")
    with pytest.raises(WorkdirError, match="links/out is a symbolic link"):
        pack(code)
    (code / ".secure-train-ignore").write_text("links")
    assert len(pack(code).files) == 4


@pytest.mark.parametrize("target", ["train.py", "/etc/passwd", "absent", "pkg"])
def test_links_are_refused_by_name(code: Path, target: str) -> None:
    (code / "link").symlink_to(target)
    with pytest.raises(WorkdirError, match=r"^link is a symbolic link; replace it"):
        pack(code)


def test_special_files_are_refused_without_waiting_on_them(code: Path) -> None:
    os.mkfifo(code / "pipe")
    with pytest.raises(WorkdirError, match=r"^pipe is not a regular file"):
        pack(code)


def test_names_that_other_systems_cannot_hold_are_refused(code: Path) -> None:
    (code / "a\\b").touch()
    with pytest.raises(WorkdirError, match="backslash"):
        pack(code)
    (code / "a\\b").unlink()
    os.close(os.open(os.fsencode(code) + b"/\xff.py", os.O_CREAT))
    with pytest.raises(WorkdirError, match="not UTF-8"):
        pack(code)


@pytest.mark.parametrize(
    "limits", [Limits(file_size=5), Limits(total_size=20), Limits(files=3)], ids=["file", "total", "count"]
)
def test_limits_hold_for_packing_and_unpacking(code: Path, tmp_path: Path, limits: Limits) -> None:
    with pytest.raises(WorkdirError, match="secure-train-ignore"):
        pack(code, limits)
    package = pack(code)
    with pytest.raises(WorkdirError):
        unpack(package.data, tmp_path / "dest", package.digest, limits)
    assert not (tmp_path / "dest").exists()


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="is not a folder"):
        pack(tmp_path / "absent")


def test_nothing_is_written_unless_the_digest_is_the_expected_one(code: Path, tmp_path: Path) -> None:
    package = pack(code)
    (code / "train.py").write_text("import os\n")
    other = pack(code)
    with pytest.raises(WorkdirError, match=f"digest {other.digest}, but {package.digest} was expected"):
        unpack(other.data, tmp_path / "dest", package.digest)
    assert not (tmp_path / "dest").exists()


def test_what_is_there_already_is_not_overwritten(code: Path, tmp_path: Path) -> None:
    package = pack(code)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for dest in (tmp_path / "full", tmp_path / "link"):
        with pytest.raises(WorkdirError, match="is not empty"):
            unpack(package.data, dest, package.digest)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "empty").mkdir()
    unpack(package.data, tmp_path / "empty", package.digest)


@pytest.mark.parametrize(
    "name",
    ["../out", "/abs", "a/../../out", "a//b", "./a", "a/", "a\\b", "..", "a/./b", "a\nb", "x/" * 600 + "y"],
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkdirError, match=r"could lie outside|not a regular file"):
        unpack(archive((tarfile.TarInfo(name), b"x")), tmp_path / "dest", NO_DIGEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S"]
)
def test_anything_but_a_regular_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(WorkdirError, match=r"not a regular file|not a readable archive"):
        unpack(archive((link("a", "/etc/passwd", kind), b"")), tmp_path / "dest", NO_DIGEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("second", ["a", "a/b"])
def test_a_path_is_named_once(tmp_path: Path, second: str) -> None:
    data = archive((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo(second), b"2"))
    with pytest.raises(WorkdirError, match="same path twice"):
        unpack(data, tmp_path / "dest", NO_DIGEST)


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    limits = Limits(file_size=1000, total_size=1000, files=2)
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join(compressor.compress(bytes(1024 * 1024)) for _ in range(64)) + compressor.flush()
    assert len(bomb) < 20_000
    with pytest.raises(WorkdirError, match="expands to more than"):
        unpack(bomb, tmp_path / "dest", NO_DIGEST, limits)


def test_a_huge_window_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(WorkdirError, match="zstd"):
        unpack(data, tmp_path / "dest", NO_DIGEST)


@given(raw=st.binary(max_size=1200), compressed=st.booleans())
def test_no_bytes_raise_anything_but_a_workdir_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, compressed: bool
) -> None:
    dest = tmp_path_factory.getbasetemp() / "never"
    with pytest.raises(WorkdirError):
        unpack(zstandard.compress(raw) if compressed else raw, dest, NO_DIGEST)
    assert not dest.exists()


@given(data=st.data())
def test_a_damaged_package_is_never_unpacked(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("ü.py", "b/" * 60 + "c.py"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 4095))] = data.draw(st.integers(0, 255))
    dest = tmp_path_factory.getbasetemp() / "never"
    with pytest.raises(WorkdirError):
        unpack(zstandard.compress(bytes(raw)), dest, NO_DIGEST)
    assert not dest.exists()
