#!/usr/bin/env bash
# Sup-tickets, Table 9: Wide ResNet28-10 on CIFAR-10 and CIFAR-100.
source "$(dirname "$0")/table.sh" 250 "$@"

cifar cifar10 wrn28-10
cifar cifar100 wrn28-10
with_and_without wrn28-10 set rigl granet
report
