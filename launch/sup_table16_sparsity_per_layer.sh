#!/usr/bin/env bash
# Sup-tickets, Table 16: the sparsity of every layer of ResNet-50 on ImageNet, rows of Table 3. It is in the folders of
# the runs: sparsity_per_layer.png, and nnz_per_layer in summary.json.
source "$(dirname "$0")/table.sh" 100 "$@"

for method in granet rigl; do
    imagenet $(sparse $method 0.1) $(sup 2 4)
    imagenet $(sparse $method 0.1)
done
report
