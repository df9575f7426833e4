#!/usr/bin/env bash
# FreeTickets, Table 10: EDST with connections that grow at random, or by gradient.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3) --growth random
    cifar $data wrn28-10 $(sparse rigl 0.2) $(edst 3)
done
report
