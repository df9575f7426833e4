#!/usr/bin/env bash
# Sup-tickets, Table 1: VGG-16 on CIFAR-10 and CIFAR-100.
source "$(dirname "$0")/table.sh" 250 "$@"

cifar cifar10 vgg16
cifar cifar100 vgg16
with_and_without vgg16 set rigl granet
report
