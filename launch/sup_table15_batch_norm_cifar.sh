#!/usr/bin/env bash
# Sup-tickets, Table 15: batch-norm statistics averaged (AV) or of one more pass over the training data (BU), of the
# tickets of Tables 1, 2 and 9; the dense networks for comparison.
source "$(dirname "$0")/table.sh" 250 "$@"

for data in cifar10 cifar100; do
    for model in vgg16 wrn28-10 resnet50; do
        cifar $data $model
        methods="set rigl granet"
        if [ $model = resnet50 ]; then methods="snip static $methods"; fi
        for method in $methods; do
            for density in 0.05 0.1 0.2; do
                cifar $data $model $(sparse $method $density) $(sup 8 3)
                superposed --bn recompute
            done
        done
    done
done
report
