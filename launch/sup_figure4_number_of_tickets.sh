#!/usr/bin/env bash
# Sup-tickets, Figure 4: more tickets from a training of the same length.
source "$(dirname "$0")/table.sh" 250 "$@"

for density in 0.05 0.1 0.2; do
    for tickets in 2 4 7; do
        cifar cifar100 wrn28-10 $(sparse rigl $density) $(sup 8 $tickets)
    done
done
report
