"""Programs that receive SIGINT, SIGTERM or SIGHUP print one line and exit with 128 + its number."""

from __future__ import annotations

import ast
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from talker import signals
from talker.signals import SIGNALS, Interrupted, collected_signals, exit_on_signals

ROOT = Path(__file__).resolve().parents[2]
# Prints "ready", waits for a signal in the body, and takes 0.3 s to clean up.
PROGRAM = """
import sys, time
from talker.signals import Interrupted, collected_signals, exit_on_signals
with exit_on_signals("all is kept"):
    try:
        if "collect" in sys.argv:
            with collected_signals() as requests:
                print("ready", flush=True)
                while not requests:
                    time.sleep(0.01)
                time.sleep(0.3)
                raise Interrupted(requests[0], "step 3 is saved")
        print("ready", flush=True)
        time.sleep(60)
    finally:
        sys.stdout.write("the end")  # stays in the buffer
        time.sleep(0.3)
"""


# Announces itself, if asked, and is stopped during the import of a module that takes long.
IMPORTING = """
import sys
from talker.signals import announce, exit_on_signals
sys.path.insert(0, sys.argv[1])
if len(sys.argv) > 2:
    announce("program")
    import slow_module
with exit_on_signals("all is kept"):
    import slow_module
"""


def start(
    *arguments: str, ignored: tuple[signal.Signals, ...] = (), unbuffered: str = "", **options: object
) -> subprocess.Popen:
    """Start PROGRAM with default signals but for those `ignored`, and wait until it is ready.

    `unbuffered`: if not empty, output is written at once.
    """

    def prepare() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        preexec_fn=prepare,
    )
    if process.stdout:
        assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("announced", [[], ["announced"]])
def test_a_signal_during_an_import_ends_the_program_with_one_line(
    tmp_path: Path, number: signal.Signals, announced: list[str]
) -> None:
    """An exception would abort the initialisation of libraries that are written in C++."""
    (tmp_path / "slow_module.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING, str(tmp_path), *announced],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in SIGNALS],
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    kept = "nothing was started" if announced else "all is kept"
    first = ["program: loading"] if announced else []
    assert printed.splitlines() == [*first, f"stopped by {number.name}: {kept}"]


@pytest.mark.parametrize("mode", ["raise", "collect"])
@pytest.mark.parametrize("number", SIGNALS)
def test_several_signals_are_one_line_and_one_exit_status(number: signal.Signals, mode: str) -> None:
    process = start(mode)
    for sent in (number, number, signal.SIGTERM, signal.SIGINT):
        process.send_signal(sent)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    _, printed = process.communicate(timeout=10)
    saved = "step 3 is saved" if mode == "collect" else "all is kept"
    assert (process.returncode, printed) == (128 + number, f"stopped by {number.name}: {saved}\n")


def test_ignored_signals_stay_ignored() -> None:
    process = start(ignored=(signal.SIGHUP,))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_terminal_gives_the_usual_exit_status(unbuffered: str) -> None:
    terminal, other = pty.openpty()
    files = {"stdin": other, "stdout": other, "stderr": other, "start_new_session": True}
    process = start("raise", unbuffered=unbuffered, **files)
    os.close(other)
    while b"ready" not in os.read(terminal, 100):
        pass
    process.send_signal(signal.SIGHUP)  # the process is no session leader of this terminal
    os.close(terminal)
    assert process.wait(10) == 129


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_gives_the_usual_exit_status(unbuffered: str) -> None:
    reader, writer = os.pipe()
    process = start("collect", unbuffered=unbuffered, stdout=writer, stderr=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        assert output.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


def test_handlers_are_restored() -> None:
    found = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    before = [signal.getsignal(number) for number in SIGNALS]
    with exit_on_signals("nothing"), collected_signals() as requests:
        os.kill(os.getpid(), signal.SIGHUP)
        assert requests == [signal.SIGHUP]
    assert [signal.getsignal(number) for number in SIGNALS] != before, "later signals are ignored"
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    with exit_on_signals("nothing"), pytest.raises(Interrupted), collected_signals():
        raise Interrupted(signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    signal.signal(signal.SIGHUP, found)


PROGRAMS = sorted(
    path
    for folder in ("recipes", "evaluation", "puppet")
    for path in (ROOT / folder).rglob("*.py")
    if "\n    announce(" in path.read_text()
)


def test_every_program_announces_itself() -> None:
    programs = {
        path
        for folder in ("recipes", "evaluation", "puppet")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "espeak_server.py" and 'if __name__ == "__main__"' in path.read_text()
    }
    assert set(PROGRAMS) == programs


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_program_prints_its_first_line_before_slow_imports(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    first = next(number for number, line in enumerate(body) if isinstance(line, ast.If))
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__main__")
    assert ast.unparse(body[first]) == f"if __name__ == '__main__':\n    announce('{name}')"
    for line in body[:first]:
        for module in [line.module] if isinstance(line, ast.ImportFrom) else []:
            assert module == "talker.signals" or module.split(".")[0] in sys.stdlib_module_names
        for module in line.names if isinstance(line, ast.Import) else []:
            assert module.name.split(".")[0] in sys.stdlib_module_names


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with exit_on_signals("all is kept"), collected_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_during_an_import_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, str]] = []
    monkeypatch.setattr(signals, "_exit_now", lambda number, line: ended.append((number, line)))
    importing = {"sys": sys}
    exec(compile("frame = sys._getframe()", "<frozen importlib._bootstrap>", "exec"), importing)
    with pytest.raises(Interrupted):
        signals._First("all is kept")(signal.SIGTERM, importing["frame"])
    assert ended == [(signal.SIGTERM, "all is kept")]
    with pytest.raises(Interrupted):
        signals._First("all is kept")(signal.SIGTERM, sys._getframe())
    assert len(ended) == 1


def test_signals_are_ignored_until_a_stopped_program_has_ended(capsys) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended, exit_on_signals("all is kept"):
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else before)
    assert capsys.readouterr().err == "stopped by SIGTERM: all is kept\n"
