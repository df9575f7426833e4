#!/usr/bin/env bash
# Sup-tickets, Table 3: ResNet-50 on ImageNet, the methods and what they cost, counted as RigL does. Static is the
# table's ERK, the dense networks of less width are its Small-Dense. By their FLOPs, SET, SNIP and DSR are uniform with dense
# layers, SNFS is ERK; SNIP as in its paper, over all layers, is there too.
source "$(dirname "$0")/table.sh" 100 "$@"

imagenet
for at in "0.2 0.465" "0.1 0.34"; do
    read -r density width <<<"$at"
    imagenet --width $width
    imagenet $(sparse snip $density)
    imagenet $(sparse snip $density) --sparse-init snip-layerwise --exempt conv1.weight
    imagenet $(sparse set $density) --sparse-init uniform --exempt conv1.weight
    imagenet $(sparse dsr $density) --exempt conv1.weight 'layer*downsample*'
    imagenet $(sparse snfs $density) --sparse-init erk
    for method in static rigl granet; do
        imagenet $(sparse $method $density)
    done
    for method in rigl granet; do
        imagenet $(sparse $method $density) $(sup 2 4)
    done
done
report --counting rigl
