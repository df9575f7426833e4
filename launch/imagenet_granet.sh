#!/usr/bin/env bash
# The rows of Table 3 of Sup-tickets with GraNet: ResNet-50 on ImageNet with and without tickets, on all GPUs of this
# machine. On several machines: slurm.sbatch, with the commands that --dry-run shows.
source "$(dirname "$0")/table.sh" 100 "$@"

for density in 0.2 0.1; do
    imagenet $(sparse granet $density)
    imagenet $(sparse granet $density) $(sup 2 4)
done
report --counting rigl
