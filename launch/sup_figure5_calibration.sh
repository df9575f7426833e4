#!/usr/bin/env bash
# Sup-tickets, Figure 5: calibration error (ECE) and NLL with and without Sup-tickets, rows of Tables 1 and 2.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for model in vgg16 resnet50; do
        for density in 0.05 0.1 0.2; do
            cifar $data $model $(sparse rigl $density)
            cifar $data $model $(sparse rigl $density) $(sup 8 3)
        done
    done
done
report
