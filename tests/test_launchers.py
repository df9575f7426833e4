"""What launches a run: the configurations for accelerate, torchrun on two nodes, and SLURM's batch script."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

import main_cifar
from tests.processes import free_port
from utils.run_folder.checkpoints import load_checkpoint

REPOSITORY = Path(main_cifar.__file__).parent
CONFIGS = {"gpu1": ("NO", 1, 1), "multi_gpu": ("MULTI_GPU", 1, 8), "multi_node": ("MULTI_GPU", 2, 16),
           "cpu2": ("MULTI_GPU", 1, 2)}  # fmt: skip
DIGITS = ("main_cifar.py", "--data", "digits", "--limit-train", "96", "--limit-test", "37", "--model", "resnet20",
          "--batch-size", "4", "--sparse", "--density", "0.1", "--resume", "auto")  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_launch_configs(name):
    path = REPOSITORY / f"launch/configs/{name}.yaml"
    config = load_config_from_file(str(path))
    assert (config.distributed_type, config.num_machines, config.num_processes) == CONFIGS[name]
    assert config.use_cpu == (name == "cpu2")
    assert set(yaml.safe_load(path.read_text())) <= set(vars(config))


def spawn(*command: str) -> subprocess.Popen[str]:
    """Start a command as a user would on a machine without GPUs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, env=environment)  # fmt: skip


def test_sigterm_to_the_launcher_saves_and_the_run_goes_on(tmp_path):
    """Two processes started by the shipped configuration, and the rest of the run in one."""
    launcher = spawn("-m", "accelerate.commands.launch", "--config_file", "launch/configs/cpu2.yaml",
                     "--main_process_port", str(free_port()), *DIGITS, "--epochs", "200",
                     "--output-dir", str(tmp_path))  # fmt: skip
    try:
        lines: list[str] = []
        for line in launcher.stdout:
            lines.append(line)
            if line.startswith("epoch"):
                break
        launcher.send_signal(signal.SIGTERM)
        lines += launcher.communicate(timeout=60)[0].splitlines(keepends=True)
    finally:
        launcher.kill()
    assert launcher.returncode != 0
    assert any(line.startswith("checkpoint") for line in lines), "".join(lines)
    assert json.loads((tmp_path / "env.json").read_text())["processes"] == 2
    (path,) = (tmp_path / "checkpoints").iterdir()
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["run"]["whole_batch_size"] == 8
    assert load_checkpoint(path, manifest["run"])["step"] == manifest["step"] > 0


def test_two_nodes(tmp_path):
    """As the batch script starts them, but over the loopback."""
    rendezvous = f"127.0.0.1:{free_port()}"
    agents = [
        spawn("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
              "--rdzv-id", "tiny", "--rdzv-endpoint", rendezvous, *DIGITS, "--epochs", "2", "--method", "set",
              "--output-dir", str(tmp_path))
        for _ in range(2)
    ]  # fmt: skip
    try:
        logs = [agent.communicate(timeout=120)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], "".join(logs)
    assert json.loads((tmp_path / "env.json").read_text())["processes"] == 2
    (manifest,) = (tmp_path / "checkpoints").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["run"]["whole_batch_size"] == 8, "they know of each other"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["nnz"] == round(0.1 * summary["maskable"])


@pytest.mark.parametrize("status, progress, requeued", [(0, True, False), (1, True, True), (1, False, False)])
def test_the_batch_script_queues_itself_again_if_a_run_got_further(status, progress, requeued, tmp_path):
    folder, commands = tmp_path / "run", tmp_path / "bin"
    (folder / "checkpoints/step-00000010").mkdir(parents=True)
    commands.mkdir()
    step = f"mkdir {folder}/checkpoints/step-00000020; " * progress
    scripts = {
        "srun": f"echo $@ >> {tmp_path}/log; {step} exit {status}",
        "scontrol": f"if [ $1 = show ]; then echo node1; else echo $@ >> {tmp_path}/log; fi",
    }
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    environment = {"PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2",
                   "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_GPUS_ON_NODE": "4"}  # fmt: skip
    command = ["bash", REPOSITORY / "launch/slurm.sbatch", str(folder), "main_cifar.py", "--sparse"]
    code = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode
    assert code == (0 if requeued else status)
    step, *queue = (tmp_path / "log").read_text().splitlines()
    assert "torchrun --nnodes=2 --nproc-per-node=4" in step
    assert "--rdzv-endpoint=node1:20007" in step
    assert step.endswith(f"main_cifar.py --output-dir {folder} --resume auto --sparse")
    assert queue == ["requeue 7"] * requeued
