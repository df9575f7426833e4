#!/usr/bin/env bash
# Table 2 of the Sup-tickets paper: ResNet-50 on CIFAR-10 and CIFAR-100. Options as in cifar_table.sh.
exec bash "$(dirname "$0")/cifar_table.sh" resnet50 "snip static set rigl granet" "$@"
