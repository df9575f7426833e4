#!/usr/bin/env bash
# Sup-tickets, Table 7: the learning rates of FGE and of SWA in the cycles, against the triangle.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in vgg16 resnet50; do
    for density in 0.05 0.1 0.2; do
        cifar cifar100 $model $(sparse rigl $density) $(sup 8 3)
        for shape in fge swa; do
            cifar cifar100 $model $(sparse rigl $density) $(sup 8 3) --cycle-lr $shape
        done
    done
done
report
