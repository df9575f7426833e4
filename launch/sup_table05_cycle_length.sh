#!/usr/bin/env bash
# Sup-tickets, Table 5: cycles of another length C, as many as the last tenth of the training has room for.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in vgg16 resnet50; do
    for density in 0.05 0.1 0.2; do
        for cycle in 2 4 8 12; do
            tickets=$((epochs / 10 / $(scaled $cycle)))
            cifar cifar100 $model $(sparse rigl $density) $(sup $cycle $((tickets > 0 ? tickets : 1)))
        done
    done
done
report
