#!/usr/bin/env bash
# Sup-tickets, Table 14: batch-norm statistics averaged (AV) or of one more pass over the training data (BU), on ImageNet.
source "$(dirname "$0")/table.sh" 100 "$@"

for method in rigl granet; do
    for density in 0.1 0.2; do
        imagenet $(sparse $method $density) $(sup 2 4)
        imagenet $(sparse $method $density) $(sup 2 4) --bn recompute
    done
done
report
