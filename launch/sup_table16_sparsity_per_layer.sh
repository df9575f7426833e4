#!/usr/bin/env bash
# Sup-tickets, Table 16: the sparsity of every layer and stage of ResNet-50 on ImageNet, rows of Table 3. Each run has
# a picture of its own too, sparsity_per_layer.png.
source "$(dirname "$0")/table.sh" 100 "$@"

for method in granet rigl; do
    imagenet $(sparse $method 0.1) $(sup 2 4)
    imagenet $(sparse $method 0.1)
done
report --layers
