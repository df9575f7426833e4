#!/usr/bin/env bash
# Sup-tickets, Table 3: ResNet-50 on ImageNet, the methods and what they cost. Static is the table's ERK, the dense
# networks of less width are its Small-Dense, and the FLOPs of its SET are those of uniform layers.
source "$(dirname "$0")/table.sh" 100 "$@"

imagenet
for at in "0.2 0.465" "0.1 0.34"; do
    read -r density width <<<"$at"
    imagenet --width $width
    imagenet $(sparse set $density) --sparse-init uniform
    for method in static snip dsr snfs rigl granet; do
        imagenet $(sparse $method $density)
    done
    for method in rigl granet; do
        imagenet $(sparse $method $density) $(sup 2 4)
    done
done
report
