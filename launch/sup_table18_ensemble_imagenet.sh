#!/usr/bin/env bash
# Sup-tickets, Table 18: the superposed ticket against the ensemble of its tickets' predictions, rows of Table 3.
source "$(dirname "$0")/table.sh" 100 "$@"

for method in rigl granet; do
    for density in 0.1 0.2; do
        imagenet $(sparse $method $density) $(sup 2 4)
    done
done
report
