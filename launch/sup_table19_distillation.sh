#!/usr/bin/env bash
# Sup-tickets, Table 19: a sparse student of the three tickets, against their superposition.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for method in set rigl; do
        for density in 0.05 0.1 0.2; do
            cifar $data vgg16 $(sparse $method $density) $(sup 8 3)
            teachers=$row/seed-SEED/tickets
            cifar $data vgg16 $(sparse $method $density) --distill "$teachers"/ticket-{1,2,3}.safetensors
        done
    done
done
report
