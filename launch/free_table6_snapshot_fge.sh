#!/usr/bin/env bash
# FreeTickets, Table 6: Snapshot and FGE ensembles of dense networks, against sparse ones.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    cifar $data wrn28-10 --snapshot --num-tickets 12 --epochs $(scaled 200)
    cifar $data wrn28-10 --fge --num-tickets 5 --cycle-epochs $(scaled 4) --epochs $(scaled 200)
    cifar $data wrn28-10 $(sparse rigl 0.1) $(edst 7)
    cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3)
    cifar $data wrn28-10 $(sparse rigl 0.2) --ensemble 3
done
report
