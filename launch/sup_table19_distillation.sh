#!/usr/bin/env bash
# Sup-tickets, Table 19: a sparse student of the three tickets, against their superposition. It has a seed of its own,
# to start from other weights and connections than its teachers.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for method in set rigl; do
        for density in 0.05 0.1 0.2; do
            cifar $data vgg16 $(sparse $method $density) $(sup 8 3)
            teachers=$row/seed-SEED/tickets
            apart=1000 cifar $data vgg16 $(sparse $method $density) --distill "$teachers"/ticket-{1,2,3}.safetensors
        done
    done
done
report
