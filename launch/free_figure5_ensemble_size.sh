#!/usr/bin/env bash
# FreeTickets, Figure 5: ensembles of more networks. EDST trains as long for many as for 3, after the same exploration.
source "$(dirname "$0")/table.sh" 250 "$@"

for size in 2 3 5 7; do
    cifar cifar10 wrn28-10 $(sparse rigl 0.2) --ensemble $size
done
cifar cifar10 wrn28-10 $(sparse rigl 0.2) $(edst 3)
for size in 2 5 7; do
    refine=$((3 * $(scaled 100) / size))
    refine=$((refine > 0 ? refine : 1))
    cifar cifar10 wrn28-10 $(sparse rigl 0.2) --edst --num-tickets $size --epochs $(scaled 450) \
        --exploration-epochs $(($(scaled 450) - size * refine)) --refine-epochs $refine
done
report
