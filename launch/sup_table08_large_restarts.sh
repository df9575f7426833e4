#!/usr/bin/env bash
# Sup-tickets, Table 8: cycles that restart at learning rate 0.1, out of the basin, against those of 0.005.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in resnet50 vgg16; do
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3)
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3) --cycle-lr swa --lr-high 0.1
done
report
