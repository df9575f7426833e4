#!/usr/bin/env bash
# From nothing to a superposed ticket: GraNet + Sup-tickets at 90 % sparsity on handwritten digits, in a few minutes
# on a CPU. Options go through, e.g. --seed 1.
set -euo pipefail
source "$(dirname "$0")/venv.sh"
python main_cifar.py --data digits --model resnet20 --epochs 40 \
    --sparse --method granet --density 0.1 \
    --sup-tickets --cycle-epochs 3 --num-tickets 3 --save-tickets \
    --output-dir runs/quickstart --overwrite "$@"
echo "Look at runs/quickstart/learning_curve.png; the ticket to use is runs/quickstart/ticket.safetensors"
