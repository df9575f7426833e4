#!/usr/bin/env bash
# FreeTickets, Table 2: ensembles of Wide ResNet28-10 on CIFAR-100; with --others DIR, DIR/CIFAR-100-C, on corrupted
# images.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_ensembles.sh"

ensembles cifar100 with_other --corruptions CIFAR-100-C
report
