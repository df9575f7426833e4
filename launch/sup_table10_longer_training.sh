#!/usr/bin/env bash
# Sup-tickets, Table 10: more tickets from a longer training, 226 + 8 M epochs.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in vgg16 resnet50; do
    for density in 0.05 0.1 0.2; do
        for tickets in 3 6 9; do
            length=$((epochs - 3 * $(scaled 8) + tickets * $(scaled 8)))
            cifar cifar100 $model $(sparse rigl $density) $(sup 8 $tickets) --epochs $length
        done
    done
done
report
