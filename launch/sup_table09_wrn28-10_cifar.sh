#!/usr/bin/env bash
# Sup-tickets, Table 9: Wide ResNet28-10 on CIFAR-10 and CIFAR-100.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    cifar $data wrn28-10
    for method in set rigl granet; do
        for density in 0.05 0.1 0.2; do
            cifar $data wrn28-10 $(sparse $method $density)
            cifar $data wrn28-10 $(sparse $method $density) $(sup 8 3)
        done
    done
done
report
