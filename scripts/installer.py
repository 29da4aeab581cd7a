"""Installs the locked requirements into an environment: with uv, which is many times faster, or else with pip.

uv does not read pip's settings. They are translated, so that uv uses the same index as pip; if one of them has no
counterpart, pip installs. When uv fails, pip installs too. Standard library only, as in `environment`.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PATIENCE = 3.0  # seconds without output until a line says what is running
STILL = 20.0  # seconds between the following lines
OLDEST_UV = (0, 5)
Command = Sequence["str | Path"]

# Settings of pip, each with the environment variable of uv that takes the same value.
SAME = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "trusted-host": "UV_INSECURE_HOST",
    "client-cert": "SSL_CLIENT_CERT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# Settings that change how pip works or looks, but not what it installs or from where.
IRRELEVANT = frozenset(
    (
        "break-system-packages",
        "cache-dir",
        "compile",
        "config-file",
        "disable-pip-version-check",
        "exists-action",
        "log",
        "no-cache-dir",
        "no-color",
        "no-compile",
        "no-input",
        "no-python-version-warning",
        "no-warn-script-location",
        "prefer-binary",
        "progress-bar",
        "quiet",
        "require-virtualenv",
        "retries",
        "root-user-action",
        "upgrade-strategy",
        "use-pep517",
        "verbose",
    )
)
# uv's own settings that are kept: its sources and its cache. Others could change what is installed, or where.
KEPT = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX.*|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|OFFLINE|INSECURE_HOST|KEYRING_PROVIDER|CONFIG_FILE"
    r"|NO_CONFIG|NATIVE_TLS|SYSTEM_CERTS|HTTP_.*|REQUEST_TIMEOUT|CONCURRENT_.*|CACHE_DIR|NO_CACHE|LINK_MODE)"
)


class InstallError(Exception):
    """A command failed; the text is the line of its output that says why, or the command."""


class Settings(NamedTuple):
    """pip's settings translated to uv's environment and options; `unknown` names those without a counterpart."""

    environment: dict[str, str]
    options: list[str]
    unknown: list[str]


def say(text: str) -> None:
    print(f"environment: {text}", flush=True)


def finish(process: subprocess.Popen[str], still: Callable[[float], None]) -> str:
    """Waits for a process and returns what it printed; calls `still` with the seconds when that takes long."""
    began, pause = time.monotonic(), PATIENCE
    try:
        while True:
            try:
                return process.communicate(timeout=pause)[0] or ""
            except subprocess.TimeoutExpired:
                still(time.monotonic() - began)
                pause = STILL
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def reason(printed: str) -> str:
    """The line that names the error; it is not always the last, since hints may follow."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return next((line for line in lines if re.match(r"error|\u00d7", line, re.IGNORECASE)), lines[-1] if lines else "")


def run(what: str, command: Command, env: dict[str, str] | None = None, silent: bool = False) -> None:
    """Runs a command; prints a line when it takes long. Raises InstallError; a silent one prints nothing else."""
    words = [str(word) for word in command]
    output = subprocess.PIPE if silent else None
    error = subprocess.STDOUT if silent else None
    # The lock is an inheritable descriptor: an installer that outlives this program holds it until it has ended.
    process = subprocess.Popen(
        words, env=env, stdout=output, stderr=error, text=True, errors="replace", close_fds=False
    )
    printed = finish(process, lambda seconds: say(f"{what} ({seconds:.0f} s so far)"))
    if process.returncode != 0:
        raise InstallError(reason(printed) or f"{' '.join(words)} ended with {process.returncode}")


def base_python() -> str:
    """The base interpreter; that of an active environment could be in the very folder that is emptied."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def create(venv: Path) -> None:
    """Creates an empty environment without pip: installing pip takes longer than installing all the rest with uv."""
    run(f"creating {venv.name}", [base_python(), "-m", "venv", "--clear", "--without-pip", venv])


def ensure_pip(venv: Path) -> None:
    if not (venv / "bin" / "pip").exists():
        run("installing pip", [venv / "bin" / "python", "-m", "ensurepip", "--default-pip"], silent=True)


def pip(venv: Path) -> list[str | Path]:
    return [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]


def steps(lock: Path, editable: Path | None) -> list[list[str | Path]]:
    """The words of each installation. The build backend of the editable package is among the locked requirements, so
    nothing is downloaded without a check of its hash."""
    locked: list[str | Path] = ["--require-hashes", "--requirement", lock]
    return [locked, ["--no-deps", "--no-build-isolation", "--editable", editable]] if editable else [locked]


def install_with_pip(venv: Path, lock: Path, editable: Path | None) -> None:
    ensure_pip(venv)
    for words in steps(lock, editable):
        run("pip installs", [*pip(venv), *words])


def install_with_uv(uv: str, settings: Settings, venv: Path, lock: Path, editable: Path | None) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("UV_") or KEPT.fullmatch(name)}
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "VIRTUAL_ENV", "CONDA_PREFIX"):
        env.pop(name, None)
    env.update(settings.environment, NO_COLOR="1")
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        venv / "bin" / "python",
        *settings.options,
    ]
    for words in steps(lock, editable):
        run("uv installs", [*command, *words], env, silent=True)


def works(uv: str | Path) -> bool:
    """True if this uv runs and is new enough; it could be a shim, or a file for another architecture."""
    # Not a pipe: a child of a shim could hold it open for longer than the timeout.
    with tempfile.TemporaryFile() as output:
        try:
            subprocess.run([uv, "--version"], stdout=output, stderr=output, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
        output.seek(0)
        found = re.match(rb"uv (\d+)\.(\d+)", output.read())
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_UV


def fetch_uv(venv: Path, lock: Path) -> str | None:
    """Installs the uv of the lock with pip, checked by its hash; None when there is no wheel of it for this machine."""
    only_uv = re.search(r"^uv==.*?(?=^\S|\Z)", lock.read_text(), re.MULTILINE | re.DOTALL)
    if only_uv is None:
        return None
    ensure_pip(venv)
    requirement = venv / "uv.txt"
    requirement.write_text(only_uv[0])
    command = [*pip(venv), "--retries", "1", "--no-deps", "--only-binary", "uv", "--require-hashes"]
    try:
        run("pip fetches uv", [*command, "--requirement", requirement], silent=True)
    except InstallError:
        return None
    uv = venv / "bin" / "uv"
    return str(uv) if works(uv) else None


def configured(venv: Path) -> dict[str, str]:
    """pip's settings from its files and its environment, as `pip install` would see them."""
    pip_config = ("-m", "pip", "--disable-pip-version-check", "config", "list")
    done = subprocess.run([base_python(), *pip_config], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:  # outside of environments pip is often missing
        ensure_pip(venv)
        python = str(venv / "bin" / "python")
        done = subprocess.run([python, *pip_config], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise InstallError("pip cannot read its configuration")
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}  # a later section wins
    for line in done.stdout.splitlines():
        entry = re.match(r"(global|install|:env:)\.([\w-]+)=(.*)", line)
        if entry is not None:
            sections[entry[1]][entry[2]] = str(ast.literal_eval(entry[3])).strip()
    merged = {**sections["global"], **sections["install"], **{k: v for k, v in sections[":env:"].items() if v}}
    return {name: value for name, value in merged.items() if value}


def is_on(value: str) -> bool:
    return value.lower() not in ("0", "false", "no", "off", "n", "f")


def find_links(value: str) -> str:
    """The value for uv, which fails for a missing folder that pip ignores."""
    return ",".join(place for place in value.split() if "://" in place or Path(place).expanduser().exists())


def translated(settings: dict[str, str]) -> Settings:
    result = Settings({}, [], [])
    env = result.environment
    for name, value in settings.items():
        if name in SAME:
            env[SAME[name]] = value
        elif name == "find-links":
            env["UV_FIND_LINKS"] = find_links(value)
        elif name == "cert":
            env["SSL_CERT_DIR" if Path(value).is_dir() else "SSL_CERT_FILE"] = value
        elif name == "proxy":
            env.update(dict.fromkeys(PROXIES, value))
        elif name == "no-index":
            result.options.extend(["--no-index"] if is_on(value) else [])
        elif name not in IRRELEVANT:
            result.unknown.append(name)
    if "UV_EXTRA_INDEX_URL" in env:
        env["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # all indexes are equal, as for pip; the hash decides
    # An index that is set for uv itself wins over pip's.
    if "UV_DEFAULT_INDEX" in os.environ or "UV_INDEX_URL" in os.environ:
        env.pop("UV_INDEX_URL", None)
    return result


def ready_uv(venv: Path, lock: Path, own: Path | None) -> tuple[str, Settings] | None:
    """The uv to install with, and pip's settings for it; None when pip must install, after a line that says why."""
    try:
        settings = translated(configured(venv))
    except InstallError as error:
        say(f"{error}; pip installs, which is slower")
        return None
    if settings.unknown:
        say(f"uv has no counterpart to pip's setting {', '.join(settings.unknown)}; pip installs, which is slower")
        return None
    found = own or shutil.which("uv")
    uv = str(found) if found and works(found) else fetch_uv(venv, lock)
    if uv is None:
        say("no uv here, and none could be fetched; pip installs, which is slower")
        return None
    return uv, settings


def install(venv: Path, lock: Path, editable: Path | None = None, uv: Path | None = None) -> None:
    """Creates the environment again; installs the lock, each package checked by its hash, and the editable package.

    `uv`: one to use instead of the one on the PATH. Raises InstallError when pip too has failed.
    """
    create(venv)
    ready = ready_uv(venv, lock, uv)
    if ready is not None:
        try:
            install_with_uv(*ready, venv, lock, editable)
            return
        except InstallError as error:
            say(f"uv failed ({error}); pip installs, which is slower")
            create(venv)
    install_with_pip(venv, lock, editable)
