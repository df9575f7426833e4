#!/usr/bin/env bash
# One table of the Sup-tickets paper: a model, dense and with each method with and without Sup-tickets, at 95, 90 and
# 80 % sparsity on CIFAR-10 and CIFAR-100, three seeds each. What is finished is kept, what was interrupted goes on.
#
#     cifar_table.sh MODEL "METHOD ..." [--seeds "0 1 2"] [any option of main_cifar.py, e.g. --epochs 20]
set -euo pipefail
model=$1 methods=$2
shift 2
seeds="0 1 2"
if [ "${1:-}" = --seeds ]; then seeds=$2; shift 2; fi
source "$(dirname "$0")/venv.sh"

for data in cifar10 cifar100; do
    for seed in $seeds; do
        run="python main_cifar.py --data $data --model $model --seed $seed --resume auto"
        $run "$@"
        for method in $methods; do
            for density in 0.05 0.1 0.2; do
                $run --sparse --method "$method" --density $density "$@"
                $run --sparse --method "$method" --density $density --sup-tickets "$@"
            done
        done
    done
done
python -m utils.report runs
