#!/usr/bin/env bash
# Sup-tickets, Table 11: tickets of three different criteria, which lie in different basins.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in resnet50 vgg16; do
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3)
    cifar cifar100 $model $(sparse rigl 0.05) $(sup 8 3) \
        --explore-drop largest smallest smallest --explore-growth gradient random random
done
report
