"""What no program may end by: its output; and how it ends by signals, at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.command_line.lines import PROGRAMS
from utils.command_line.errors import one_line_errors

REPOSITORY = Path(__file__).parents[2]
START = "from utils.command_line.program import start; start(); "
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def python(code: str, **settings: object) -> subprocess.Popen[str]:
    """A program that starts as ours do, and then does that."""
    kinds = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": REPOSITORY, "text": True}
    return subprocess.Popen([sys.executable, "-c", START + code], **{**kinds, **settings})


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "cwd": REPOSITORY, "env": {**os.environ, **environment}}
    return subprocess.run(["bash", "-o", "pipefail", "-c", command.replace("python", sys.executable, 1)], **settings)


# ---- output --------------------------------------------------------------------------------------------------------


def test_what_the_encoding_lacks_is_replaced():
    process = python(
        r"print('50 \xb1 1 \xd7'); import sys; print('\u0394', file=sys.stderr)", env={**os.environ, **ASCII}
    )
    assert process.communicate() == ("50 ? 1 ?\n", "?\n") and process.returncode == 0


@pytest.mark.parametrize(
    "end", ["| head -1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full", "| true"]
)
def test_output_that_nobody_takes_ends_nothing(end, tmp_path):
    code = START + "import sys, tqdm, pathlib; "
    code += "[print(w * 99, file=s) for w in 'abc' for s in (sys.stdout, sys.stderr) for _ in range(999)]; "
    code += "tqdm.tqdm.write('d'); open('first', 'w').write('e'); print('f'); pathlib.Path('done').touch()"
    settings = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}, "capture_output": True}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f'{sys.executable} -c "{code}" {end}'], **settings)
    assert done.returncode == 0 and b"rror" not in done.stderr
    assert (tmp_path / "done").exists()
    assert (tmp_path / "first").read_text() == "e", "no file may get the number of a closed stream"


def test_lines_are_seen_at_once():
    process = python("import time; print('now'); time.sleep(60)")
    assert process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()


def test_a_run_whose_log_is_not_utf8_and_goes_away(tmp_path):
    words = "--data digits --model resnet20 --limit-train 16 --limit-test 9 --batch-size 8 --epochs 1 --sparse"
    done = shell(f"python main_cifar.py {words} --output-dir {tmp_path}/run | head -1", **ASCII)
    assert done.returncode == 0 and done.stderr == ""
    assert (tmp_path / "run/summary.json").exists()


# ---- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_one_line_and_its_status(number):
    process = python("print(); import time\nwhile True:\n try: time.sleep(60)\n except BaseException: pass")
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate() == ("", f"-c: stopped by {number.name}\n")
    assert process.returncode == 128 + number


def test_a_signal_that_is_ignored_from_outside_stays_so():
    command = f"trap '' HUP; exec python -c '{START}import os; os.kill(os.getpid(), 1); print(2)'"
    assert shell(command).stdout == "2\n"


def test_processes_that_load_data_leave_signals_to_their_parent():
    code = """import os, signal, time
child = os.fork()
if child == 0:
    print("child", flush=True)
    time.sleep(1)
    print("still there", flush=True)
    os._exit(0)
os.waitpid(child, 0)"""
    process = python(code, start_new_session=True)
    assert process.stdout.readline() == "child\n"
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate() == ("still there\n", "-c: stopped by SIGINT\n") and process.returncode == 130


@pytest.mark.parametrize(("program", "needed"), PROGRAMS.items())
def test_every_program_is_ready_before_its_imports(program, needed):
    """Ctrl-C while it imports, which for torch alone takes seconds."""
    words = [*program.split(), *needed.split()]
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *words], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.endswith(" utils.command_line.program\n"):
            break
    next(process.stderr)  # the import after it
    process.send_signal(signal.SIGINT)
    rest = [line for line in process.stderr if not line.startswith("import time:")]
    name = program.removeprefix("-m utils.").removesuffix(".py") + ".py"
    assert rest == [f"{name}: stopped by SIGINT\n"] and process.wait() == 130


def test_memory_that_a_cpu_does_not_have_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), one_line_errors():
        torch.empty(2**60, dtype=torch.uint8)
    assert capsys.readouterr().err.endswith("to keep the size of the whole batch\n")


def test_other_errors_of_torch_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), one_line_errors():
        torch.ones(2, 3) @ torch.ones(2, 3)
