#!/usr/bin/env bash
# Sup-tickets, Table 11: tickets of three different criteria, which lie in different basins. The paper does not say how
# many connections they exchange; where it was half, their average did them no harm.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in resnet50 vgg16; do
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3)
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3) --explore-rate 0.9 \
        --explore-drop largest smallest smallest --explore-growth gradient random random
done
report
