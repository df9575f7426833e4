#!/usr/bin/env bash
# One method of Table 3 of the Sup-tickets paper: ResNet-50 on ImageNet at 80 and 90 % sparsity, with and without
# Sup-tickets, on all GPUs of this machine (several machines: slurm.sbatch). What is finished is kept, what was
# interrupted goes on.
#
#     imagenet_table.sh METHOD [any option of main_imagenet.py, e.g. --data-dir /data/imagenet --mixed-precision bf16]
set -euo pipefail
method=$1
shift
source "$(dirname "$0")/venv.sh"

gpus=$(python -c 'import torch; print(max(torch.cuda.device_count(), 1))')
launch=python
if [ "$gpus" -gt 1 ]; then launch="torchrun --standalone --nproc-per-node $gpus"; fi
# 128 images per optimizer step, as in the paper; with --batch-size 256 --scale-lr it goes faster
run="$launch main_imagenet.py --batch-size $((128 / gpus)) --resume auto --sparse --method $method"
for density in 0.2 0.1; do
    $run --density $density "$@"
    $run --density $density --sup-tickets "$@"
done
python -m utils.report runs
