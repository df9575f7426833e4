#!/usr/bin/env bash
# Sup-tickets, Table 17: the superposed ticket against the ensemble of its tickets' predictions, rows of Tables 1 and 2.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in vgg16 resnet50; do
    for data in cifar10 cifar100; do
        for density in 0.05 0.1 0.2; do
            cifar $data $model $(sparse rigl $density) $(sup 8 3)
        done
    done
done
report
