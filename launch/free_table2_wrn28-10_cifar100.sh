#!/usr/bin/env bash
# FreeTickets, Table 2: ensembles of Wide ResNet28-10 on CIFAR-100.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_ensembles.sh"

ensembles cifar100
report
