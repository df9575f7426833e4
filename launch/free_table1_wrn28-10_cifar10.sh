#!/usr/bin/env bash
# FreeTickets, Table 1: ensembles of Wide ResNet28-10 on CIFAR-10; with --others DIR, DIR/CIFAR-10-C, on corrupted images.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_ensembles.sh"

ensembles cifar10 with_other --corruptions CIFAR-10-C
report
