#!/usr/bin/env python3
"""Stands for `systemctl --user` (and for `systemd-run`, `loginctl`) in tests: starts and stops what
the unit says, tells its state, and keeps a record of how it was called."""
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

state = Path(os.environ["FAKE_SYSTEMD"])
units = Path(os.environ["HOME"]) / ".config/systemd/user"
unit = units / "everfresh.service"
arguments = sys.argv[1:]
with open(state / "calls", "a") as calls:
    print(Path(sys.argv[0]).name, *arguments, file=calls)


def pid():
    try:
        found = int((state / "pid").read_text())
        os.kill(found, 0)
        return found
    except (OSError, ValueError):
        return 0


def stop():
    found = pid()
    if found:
        os.kill(found, signal.SIGTERM)
        while pid():
            time.sleep(0.02)
    (state / "pid").unlink(missing_ok=True)


def start():
    if pid():
        return
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]
    log = open(state / "log", "a")
    # Its own parent is gone at once, so that its end leaves no zombie behind.
    script = f'{shlex.join(words)} </dev/null >/dev/null & echo $! >{shlex.quote(str(state / "pid"))}'
    subprocess.run(["sh", "-c", script], stderr=log, check=True, start_new_session=True)


def show():
    running = pid()
    enabled = (state / "enabled").exists()
    print("LoadState=" + ("loaded" if unit.exists() else "not-found"))
    print("ActiveState=" + ("active" if running else "inactive"))
    print("SubState=" + ("running" if running else "dead"))
    print("UnitFileState=" + ("enabled" if enabled else ""))
    print(f"MainPID={running}")
    print("FragmentPath=" + (str(unit) if unit.exists() else ""))
    print("StatusText=")
    print("ActiveEnterTimestamp=" + ("@1795514400" if running else ""))


name = Path(sys.argv[0]).name
if name == "systemd-run":
    program = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
    sys.exit(subprocess.run(arguments[program:], stdout=subprocess.DEVNULL).returncode)
if name == "loginctl":
    print("no")
    sys.exit(0)
if os.environ.get("FAKE_SYSTEMD_GONE"):
    print("Failed to connect to bus: No medium found", file=sys.stderr)
    sys.exit(1)
words = [word for word in arguments if not word.startswith("-")]
if words[0] == os.environ.get("FAKE_SYSTEMD_FAILS"):
    print("Job for everfresh.service failed.", file=sys.stderr)
    sys.exit(1)
match words:
    case ["show", *_]:
        show()
    case ["enable", *_]:
        (state / "enabled").touch()
    case ["disable", *_]:
        (state / "enabled").unlink(missing_ok=True)
    case ["start", *_]:
        start()
    case ["stop", *_]:
        stop()
    case ["daemon-reload"]:
        pass
    case other:
        print(f"unknown: {other}", file=sys.stderr)
        sys.exit(1)
