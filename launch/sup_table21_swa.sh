#!/usr/bin/env bash
# Sup-tickets, Table 21: SWA of a dense network, pruned before the first average (PF); SWA of a sparse one whose
# connections never move (Static), both with batch norm recomputed as SWA does; and Sup-tickets.
source "$(dirname "$0")/table.sh" 250 "$@"

for density in 0.05 0.1 0.2; do
    for method in pf static; do
        cifar cifar100 resnet50 $(sparse $method $density) $(sup 8 3) --growth none --cycle-lr swa --bn recompute
    done
    cifar cifar100 resnet50 $(sparse rigl $density) $(sup 8 3)
done
report
