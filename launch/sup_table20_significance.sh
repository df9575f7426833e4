#!/usr/bin/env bash
# Sup-tickets, Table 20: is the difference to Sup-tickets significant? Kolmogorov-Smirnov test of 15 seeds, and of 15
# others with Sup-tickets: with the same ones the runs would be the same up to the first drop of the learning rate.
seeds=$(seq -s " " 0 14)
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for method in set rigl; do
        for density in 0.05 0.1 0.2; do
            cifar $data vgg16 $(sparse $method $density)
            apart=1000 cifar $data vgg16 $(sparse $method $density) $(sup 8 3)
        done
    done
done
report --significance
