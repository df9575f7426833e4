#!/usr/bin/env bash
# Sup-tickets, Table 2: ResNet-50 on CIFAR-10 and CIFAR-100.
source "$(dirname "$0")/table.sh" 250 "$@"

cifar cifar10 resnet50
cifar cifar100 resnet50
with_and_without resnet50 snip static set rigl granet
report
