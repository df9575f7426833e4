#!/usr/bin/env bash
# FreeTickets, Table 13: accuracy under attack by the fast gradient sign method with a step of 8/255.
source "$(dirname "$0")/table.sh" 250 "$@"
source "$(dirname "$0")/free_single_networks.sh"

singles_and_ensembles cifar10 evaluated --fgsm
singles_and_ensembles cifar100 evaluated --fgsm
report
