#!/usr/bin/env bash
# Sup-tickets, Figure 3: the same tickets averaged by CIA, by CAA, and by CIMA with several β. The figure does not name
# its network.
source "$(dirname "$0")/table.sh" 250 "$@"

for model in vgg16 resnet50; do
    for density in 0.05 0.1 0.2; do
        cifar cifar100 $model $(sparse rigl $density) $(sup 8 3)
        superposed --superpose caa
        for beta in 0.9 0.8 0.5 0.2 0.1; do
            superposed --superpose cima --cima-beta $beta
        done
    done
done
report
