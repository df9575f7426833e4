#!/usr/bin/env bash
# Table 1 of the Sup-tickets paper: VGG-16 on CIFAR-10 and CIFAR-100. Options as in cifar_table.sh.
exec bash "$(dirname "$0")/cifar_table.sh" vgg16 "set rigl granet" "$@"
