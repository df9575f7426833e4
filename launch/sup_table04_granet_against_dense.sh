#!/usr/bin/env bash
# Sup-tickets, Table 4: GraNet with Sup-tickets against the dense networks, rows of Tables 1, 2 and 9.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for model in vgg16 resnet50 wrn28-10; do
        cifar $data $model
        for density in 0.05 0.1 0.2; do
            cifar $data $model $(sparse granet $density) $(sup 8 3)
        done
    done
done
report
