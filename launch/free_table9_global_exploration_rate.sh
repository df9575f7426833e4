#!/usr/bin/env bash
# FreeTickets, Table 9: the global exploration rate q of EDST, which is 0.8 without the option.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for rate in 0.1 0.5; do
        cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3) --global-explore-rate $rate
    done
    cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3)
done
report
