#!/usr/bin/env bash
# Table 9 of the Sup-tickets paper: Wide ResNet28-10 on CIFAR-10 and CIFAR-100. Options as in cifar_table.sh.
exec bash "$(dirname "$0")/cifar_table.sh" wrn28-10 "set rigl granet" "$@"
