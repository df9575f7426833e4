#!/usr/bin/env bash
# Sup-tickets, Table 6: how much the predictions of tickets differ, those of the members of efficient ensembles, and those
# of independent dense networks. The paper does not say at which sparsity.
source "$(dirname "$0")/table.sh" 250 "$@"

cifar cifar10 wrn28-10 $(efficient treenet 3)
cifar cifar10 wrn28-10 $(efficient batchensemble 4)
for method in set rigl; do
    for density in 0.05 0.1 0.2; do
        cifar cifar10 wrn28-10 $(sparse $method $density) $(sup 8 3)
    done
done
cifar cifar10 wrn28-10 --ensemble 4
report
