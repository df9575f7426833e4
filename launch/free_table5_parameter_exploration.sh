#!/usr/bin/env bash
# FreeTickets, Table 5: both ensembles with and without parameter exploration.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    cifar $data wrn28-10 $(sparse static 0.2) $(edst 3) --growth none
    cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3)
    cifar $data wrn28-10 $(sparse static 0.2) --ensemble 3
    cifar $data wrn28-10 $(sparse rigl 0.2) --ensemble 3
done
report
